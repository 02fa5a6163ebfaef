from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from semroute.index import open_artifact

SCRIPT = Path(__file__).parents[2] / "scripts" / "tune_fallback.py"


def run(*arguments: str) -> Result:
    command = runpy.run_path(str(SCRIPT))["tune_fallback"]
    assert isinstance(command, click.Command)
    done = CliRunner().invoke(command, arguments, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.exception
    return done


@pytest.mark.slow
def test_the_recommended_threshold_catches_what_was_asked_and_is_the_lowest_such(
    routing_index: Path, labelled: Path
) -> None:
    value = json.loads(run(str(labelled), "--index", str(routing_index), "--oos-recall", "0.5", "--json").stdout)
    best = value["recommended"]
    assert best["oos_caught"] >= 0.5
    lower = [point for point in value["points"] if point["threshold"] < best["threshold"]]
    assert lower
    assert all(point["oos_caught"] < 0.5 for point in lower)
    assert value["written"] is False


@pytest.mark.slow
def test_the_table_the_curve_and_the_index_are_written(own_index: Path, labelled: Path, tmp_path: Path) -> None:
    plot = tmp_path / "curve.png"
    done = run(str(labelled), "--index", str(own_index), "--plot", str(plot), "--write")
    for words in ("threshold", "coverage", "accuracy on accepted", "out of scope caught"):
        assert words in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    entries = open_artifact(own_index).manifest.categories.values()
    (threshold,) = {entry.threshold for entry in entries}
    assert f"recommended: {threshold:.2f}" in done.stdout
    assert {entry.threshold_from for entry in entries} == {"out-of-scope"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none.jsonl", "empty.jsonl"])
def test_a_file_that_cannot_be_used_is_one_error_line(routing_index: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    command = [sys.executable, str(SCRIPT), str(tmp_path / name), "--index", str(routing_index)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / name}")
    assert done.stderr.count("\n") == 1

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.runner import run

from semroute.cli.main import main
from semroute.testing import FakeProvider, answer, fail

pytestmark = pytest.mark.slow

KEY = "sk-proj-a1b2c3d4e5f6g7h8"


@pytest.fixture
def asked(routing_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answered query, one that failed, one that was only routed; in the log of the working folder."""
    monkeypatch.setenv("THE_KEY", KEY)
    with FakeProvider(key=KEY) as provider:
        config: dict[str, Any] = {
            "deployments": [
                {"name": "small-1", "model": "small", "base_url": provider.base_url, "api_key_env": "THE_KEY",
                 "price": {"input": 1.0, "output": 2.0}}
            ],
            "retries": {"same_place": 0},
            "index": str(routing_index),
        }  # fmt: skip
        Path("semroute.yaml").write_text(yaml.safe_dump(config))
        provider.script(answer("eight minutes", input_tokens=100, output_tokens=10), fail(500, f"wrong {KEY}"))
        assert main(["ask", "recipe for carrot soup"]) == 0
        assert main(["ask", "how long do I boil an egg"]) == 1
    assert main(["route", "appeal a court ruling"]) == 0


@pytest.mark.usefixtures("asked")
def test_every_query_is_logged_and_shown_in_a_line() -> None:
    first, second, third = run("log", "tail").stdout.splitlines()
    assert '"recipe for carrot soup"' in first
    assert "0.000120" in first
    assert "UnavailableError" in second
    assert "(large)" in third
    values = [json.loads(line) for line in run("log", "tail", "--json").stdout.splitlines()]
    assert [value["error_kind"] for value in values] == [None, "UnavailableError", None]
    assert (values[0]["baseline_model"], values[0]["baseline_usd"]) == ("small", pytest.approx(0.00012))


@pytest.mark.usefixtures("asked")
def test_no_secret_is_in_the_database() -> None:
    raw = b"".join(path.read_bytes() for path in Path(".semroute").iterdir())
    assert b"carrot soup" in raw
    assert KEY.encode() not in raw


@pytest.mark.usefixtures("asked")
def test_an_answer_is_judged_by_the_beginning_of_its_id() -> None:
    shown = run("log", "tail").stdout.split()[0]
    assert main(["feedback", shown, "good", "--comment", "as my grandmother made it"]) == 0
    assert json.loads(run("log", "tail", "--json").stdout.splitlines()[0])["feedback"] == 1.0
    assert main(["feedback", "last", "0.25"]) == 0
    assert main(["feedback", "last", "7"]) == 2
    assert run("feedback", "last", "fine").exit_code == 2


@pytest.mark.parametrize("name", ["a.csv", "a", "a.jsonl.gz", "jsonl"])
@pytest.mark.usefixtures("asked")
def test_export_refuses_a_name_of_no_format_and_names_those_that_are(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "export", "--out", name]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{name}: an export is one of .jsonl, .parquet; name it so, or give --format" in said
    assert not Path(name).exists()
    assert main(["log", "export", "--out", name, "--format", "jsonl"]) == 0
    assert json.loads(Path(name).read_text("utf-8").splitlines()[0])["query"]
    assert main(["log", "export", "--out", "a.PARQUET"]) == 0
    assert Path("a.PARQUET").read_bytes()[:4] == b"PAR1"


@pytest.mark.usefixtures("asked")
def test_export_info_and_prune() -> None:
    assert main(["log", "export", "--out", "a.jsonl"]) == 0
    assert len(Path("a.jsonl").read_text().splitlines()) == 3
    assert main(["log", "export", "--out", "a.parquet", "--since", "1h"]) == 0
    assert main(["log", "export", "--out", "none.jsonl", "--until", "2020-01-01"]) == 0
    assert Path("none.jsonl").read_text() == ""
    assert json.loads(run("log", "info", "--json").stdout)["outcomes"] == 3
    assert "outcomes   3" in run("log", "info").stdout
    assert main(["log", "prune", "--keep-days", "0"]) == 0
    assert json.loads(run("log", "info", "--json").stdout)["outcomes"] == 0


@pytest.mark.parametrize("words", ["yesterday", "7y", "2026-13-01", "1e999d"])
def test_a_time_that_is_none_is_refused(words: str) -> None:
    done = run("log", "export", "--out", "x.jsonl", "--since", words)
    assert done.exit_code == 2
    assert "is no time" in done.output


def test_a_log_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "tail"]) == 1
    assert "there is no log yet" in capsys.readouterr().err
    assert main(["log", "tail", "--log", "mysql://here/db"]) == 2
    assert not Path(".semroute").exists()


def test_the_log_can_be_switched_off(routing_index: Path) -> None:
    Path("semroute.yaml").write_text("log: {enabled: false}")
    assert main(["route", "boil an egg", "--index", str(routing_index)]) == 0
    assert not Path(".semroute").exists()


def test_a_log_that_cannot_be_opened_stops_nobody(routing_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("semroute.yaml").write_text('log: {url: "postgresql://nobody@127.0.0.1:1/none"}')
    assert main(["route", "boil an egg", "--index", str(routing_index)]) == 0
    captured = capsys.readouterr()
    assert "cooking" in captured.out
    assert "warning: nothing is logged" in captured.err


@pytest.mark.parametrize("more", [(), ("--model", "small")], ids=["routed", "pinned"])
@pytest.mark.parametrize("enabled", [True, None], ids=["log on", "log by default"])
def test_no_log_goes_over_the_configuration(routing_index: Path, more: tuple[str, ...], enabled: bool | None) -> None:
    with FakeProvider() as provider:
        section = {} if enabled is None else {"log": {"enabled": enabled}}
        place = {"name": "small-1", "model": "small", "base_url": provider.base_url}
        Path("semroute.yaml").write_text(
            yaml.safe_dump({"deployments": [place], "index": str(routing_index), **section})
        )
        assert main(["ask", "--no-log", "recipe for carrot soup", *more]) == 0
        assert not Path(".semroute/log.db").exists()
        assert main(["ask", "recipe for carrot soup", *more]) == 0
        assert main(["ask", "--no-log", "how do I poach an egg", *more]) == 0
        assert main(["route", "--no-log", "how do I poach an egg"]) == 0
    Path("q.txt").write_text("how do I poach an egg\n")
    assert main(["route", "--no-log", "--file", "q.txt"]) == 0
    assert len(run("log", "tail", "--json").stdout.splitlines()) == 1
    assert b"poach" not in b"".join(path.read_bytes() for path in Path(".semroute").iterdir())


@pytest.mark.usefixtures("asked")
def test_elsewhere_than_at_a_terminal_an_outcome_is_a_line_without_a_header() -> None:
    lines = run("log", "tail").stdout.splitlines()
    assert len(lines) == 3
    assert all(re.match(r"[0-9a-f]{16}  \d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)

"""An answer, or a progress bar, that breaks off ends its line: what is said next begins one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cli.runner import parts_sent
from cli.screens import screens
from click.testing import CliRunner

from semroute.cli.main import cli, main
from semroute.testing import FakeProvider, Reply, answer, error_event, reset_after, stall_after, truncated

TEXT = "carrots and onions in a pot with water and salt"


@pytest.fixture
def provider(routing_index: Path) -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        place = {"name": "small-1", "model": "small", "base_url": running.base_url}
        settings = {"deployments": [place], "index": str(routing_index), "retries": {"same_place": 0}}
        Path("semroute.yaml").write_text(yaml.safe_dump(settings))
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--model", "small")], ids=["routed", "pinned"])
@pytest.mark.parametrize(
    "broken",
    [reset_after(3, answer(TEXT)), error_event(3, answer(TEXT)), truncated(3, answer(TEXT))],
    ids=["reset", "error event", "truncated"],
)
def test_a_stream_that_breaks_ends_its_line_before_the_error(
    provider: FakeProvider, broken: Reply, more: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    provider.script(broken)
    assert main(["ask", "recipe for carrot soup", "--stream", *more]) == 1
    out, err = capfd.readouterr()
    assert out.endswith("\n")
    assert out.strip()
    assert TEXT.startswith(out.rstrip("\n").rstrip())
    assert err.startswith("error: ")


@pytest.mark.slow
def test_at_a_terminal_the_error_stands_in_a_line_of_its_own(provider: FakeProvider) -> None:
    provider.script(reset_after(3, answer(TEXT)))
    ((code, lines),) = screens([["ask", "recipe for carrot soup", "--stream"]], 80, Path.cwd())
    assert code == 1
    shown = "\n".join(lines).strip().split("\n")
    assert TEXT.startswith(shown[0].rstrip())
    assert shown[1].startswith("error: ")


@pytest.mark.slow
def test_an_answer_that_fails_before_its_first_piece_leaves_no_empty_line(provider: FakeProvider) -> None:
    provider.script(error_event(0, answer(TEXT)))
    done = CliRunner().invoke(cli, ["ask", "recipe for carrot soup", "--stream"])
    assert done.exception is not None
    assert done.stdout == ""


@pytest.mark.slow
def test_ctrl_c_ends_the_line_of_the_answer(provider: FakeProvider) -> None:
    provider.script(stall_after(3, answer(TEXT)))
    near, far = os.openpty()
    command = [sys.executable, "-m", "semroute.cli.main", "ask", "recipe for carrot soup", "--stream"]
    running = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=far, stderr=far, env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
    )  # fmt: skip
    os.close(far)
    sent, is_pressed = b"", False
    for part in parts_sent(near, 120):
        sent += part
        if not is_pressed and TEXT[:8].encode() in sent:
            is_pressed = True
            running.send_signal(signal.SIGINT)
    os.close(near)
    assert running.wait(60) == 130
    lines = sent.decode().strip().split("\r\n")
    assert lines[-1] == "interrupted"
    assert TEXT.startswith(lines[-2].rstrip())


@pytest.mark.slow
def test_an_error_after_progress_begins_a_line(provider: FakeProvider) -> None:
    folder = Path("categories")
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text("".join(f"{name} example number {n} of words\n" for n in range(6)))
    remote = ["--encoder", "remote", "--base-url", f"{provider.base_url}/nowhere", "--model", "none"]
    ((code, lines),) = screens([["build-index", "categories", "--out", "index", *remote]], 80, Path.cwd())
    assert code != 0
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert sum("error: " in line for line in lines) == 1

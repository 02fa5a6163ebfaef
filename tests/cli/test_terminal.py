"""What a stranger's text may do to a terminal: nothing. Each command runs at a real one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cli.runner import parts_sent
from rich.table import Table
from rich.text import Text

from semroute.cli.console import AnswerPrinter, print_error, print_json, print_line, stdout, visible
from semroute.testing import FakeProvider, answer, fail

pty = pytest.importorskip("pty", reason="this system has no terminals")

CLIPBOARD, TITLE, CURSOR = "\x1b]52;c;ZXZpbA==\x07", "\x1b]0;title\x1b\\", "\x1b[2J\x9b1;1H\x9d0;x\x9c"
HOSTILE = f"soup {CLIPBOARD}{TITLE}{CURSOR}\u202egnp.exe\u2066\b\b\x00\x7f\rend"
OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
"""What may not reach a terminal; it is handed ``\\r\\n`` at the end of each line."""


@pytest.fixture
def provider(routing_index: Path) -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        deployment = {"name": "small-1", "model": "small", "base_url": running.base_url}
        settings = {"deployments": [deployment], "index": str(routing_index), "retries": {"same_place": 0}}
        Path("semroute.yaml").write_text(yaml.safe_dump(settings))
        yield running


def at_terminal(*arguments: str, keys: str = "") -> str:
    """What a command sends to the terminal that it runs at; a key is pressed when it has been silent for a while."""
    near, far = pty.openpty()
    env = {**os.environ, "TERM": "dumb", "COLUMNS": "200", "LINES": "60", "PAGER": "cat", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "semroute.cli.main", *arguments]
    running = subprocess.Popen(command, stdin=far, stdout=far, stderr=far, env=env, start_new_session=True)
    os.close(far)
    sent, left = b"", list(keys)
    for part in parts_sent(near, 60, silence_s=0.5):
        if not part and b"q end" in sent and left:
            os.write(near, left.pop(0).encode())
        sent += part
    os.close(near)
    running.kill()
    running.wait(60)
    return sent.decode("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--stream"], ["--json"], ["--model", "small"], ["--model", "small", "--stream"]])
def test_an_answer_that_commands_the_terminal_is_shown(more: list[str], provider: FakeProvider) -> None:
    provider.script(answer(HOSTILE))
    sent = at_terminal("ask", "recipe for carrot soup", *more)
    assert not OBEYED.search(sent)
    assert ("\\u001b]52;c;" if "--json" in more else "^[]52;c;ZXZpbA==^G") in sent
    assert "gnp.exe" in sent


@pytest.mark.slow
def test_an_error_that_commands_the_terminal_is_shown(provider: FakeProvider) -> None:
    provider.script(fail(500, HOSTILE))
    sent = at_terminal("ask", "recipe for carrot soup")
    assert not OBEYED.search(sent)
    assert "error: " in sent


@pytest.mark.slow
@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "command", [("route",), ("rules",), (), ("log", "tail", "--log"), ("inspect", "--index"), ("ask", "--max-usd")]
)
def test_an_argument_that_commands_the_terminal_is_shown(command: tuple[str, ...]) -> None:
    sent = at_terminal(*command, HOSTILE.replace("\0", ""))
    assert not OBEYED.search(sent)


@pytest.mark.slow
def test_a_file_of_queries_and_the_log_of_them_are_shown(provider: FakeProvider) -> None:
    Path("queries.jsonl").write_text(json.dumps({"query": f"boil an egg {HOSTILE}"}) + "\n")
    for command in (["route", "--file", "queries.jsonl"], ["log", "tail"], ["log", "tail", "--json"], ["report"]):
        sent = at_terminal(*command)
        assert not OBEYED.search(sent), command
        assert "egg" in sent or command == ["report"]


@pytest.mark.slow
def test_answers_to_label_are_shown_on_the_screen_and_in_the_pager() -> None:
    cell = {"quality": None, "response": HOSTILE}
    row = {"query": HOSTILE, "outcomes": {"small": cell, "large": cell}}
    Path("asked.jsonl").write_text(json.dumps(row) + "\n")
    sent = at_terminal("label", "asked.jsonl", "--out", "judged.jsonl", keys="vq")
    assert "--- answer 2 ---" in sent, "the pager's"
    assert sent.count("gnp.exe") >= 6, "on the screen twice, and in the pager"
    assert not OBEYED.search(sent)


@pytest.mark.parametrize(
    "pieces",
    [["\x1b", "]52;c;x", "\x07"], ["a\x1b", "[2J"], ["\r", "x"], ["\ud83d", "\ude00"], ["\ud83d", "x"], ["\x9b", "m"],
     ["a\r", "\nb"], ["", "\x1b"], list(HOSTILE)],
)  # fmt: skip
def test_a_sequence_that_is_split_between_pieces_is_shown(
    pieces: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    printer = AnswerPrinter()
    for piece in pieces:
        printer.write(piece)
    printer.end()
    assert capsys.readouterr().out == visible("".join(pieces)) + "\n"


@pytest.mark.parametrize("pieces", [[HOSTILE], list(HOSTILE), ["\ud83d", "\ude00"], ["a\r", "\nb\r"]])
def test_an_answer_that_goes_to_a_program_stays_as_it_is(
    pieces: list[str], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    printer = AnswerPrinter()
    for piece in pieces:
        printer.write(piece)
    printer.end()
    told = "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16")
    assert capsysbinary.readouterr().out == f"{told}\n".encode()


@pytest.mark.slow
def test_whatever_controls_is_shown_and_all_else_stays() -> None:
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        text = chr(code)
        is_control = unicodedata.category(text) == "Cc" or unicodedata.bidirectional(text) in (
            "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip
        if is_control and text not in "\n\t":
            assert visible(text).isprintable()
            assert visible(text).isascii()
        else:
            assert visible(text) == text
    assert visible("\ud800") == "\ufffd"
    assert visible("\x1b[31m\x7f\x9b\r\n\t") == "^[[31m^?<U+009B>\n\t"


def test_tables_notes_and_json_show_control_characters_and_read_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[red]name[/red]", title="[bold]title")
    table.add_row(f"[link=https://evil.example]{HOSTILE}[/link]")
    table.add_row(":smile:")
    table.add_row(Text(HOSTILE))
    stdout().print(table)
    stdout().print(f"[blink]{HOSTILE}")
    print_error(f"[red]{HOSTILE}")
    print_line(HOSTILE)
    print_json({"text": HOSTILE})
    captured = capsys.readouterr()
    for sent in (captured.out, captured.err):
        assert not OBEYED.search(sent.replace("\n", "\r\n"))
        assert "^[]52" in sent
    for told in ("[red]name[/red]", "[bold]title", "[link=https://", ":smile:", "[blink]"):
        assert told in captured.out
    assert json.loads(captured.out.splitlines()[-1]) == {"text": HOSTILE}

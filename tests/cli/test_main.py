from __future__ import annotations

import os
import resource
import subprocess
import sys

import click
import pytest

from semroute import __version__
from semroute.cli import main as main_module
from semroute.cli.main import _COMMANDS, _SECTIONS, cli, main
from semroute.errors import DispatchError, QueryError

COMMAND = [sys.executable, "-m", "semroute.cli.main"]


def add(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A command ``raise`` that raises."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(main_module, "_raise", command, raising=False)
    monkeypatch.setitem(cli._targets, "raise", ("semroute.cli.main:_raise", "Raise."))  # type: ignore[attr-defined]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("init", "config", "build-index", "route", "ask", "evaluate", "tune", "inspect"):
        assert f"  {name} " in out


@pytest.mark.slow
@pytest.mark.torch(needed=False)
def test_help_imports_nothing_heavy_and_answers_at_once() -> None:
    script = (
        "import sys; from semroute.cli.main import main; main(['--help']);"
        "heavy = {'numpy', 'faiss', 'onnxruntime', 'pydantic', 'httpx', 'rich', 'yaml', 'torch'} & set(sys.modules);"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert (done.returncode, done.stderr) == (0, "")
    assert min(times) < 0.4  # of processor time, whatever else the machine does; an import above takes as much


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_every_command_of_the_table_is_one(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"semroute {__version__}\n"


def test_help_has_a_section_for_every_command_and_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert {name for names in _SECTIONS.values() for name in names} == set(_COMMANDS)
    main(["--help"])
    out = capsys.readouterr().out
    assert [line[:-1] for line in out.splitlines() if line in [f"{title}:" for title in _SECTIONS]] == list(_SECTIONS)
    assert max(map(len, out.splitlines())) <= 80


def test_a_command_of_no_section_is_listed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, ValueError())
    main(["--help"])
    assert "Other commands:\n  raise " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["biuld-index"], 'Did you mean "build-index"?'),
        (["evalute"], 'Did you mean "evaluate"?'),
        (["config", "chekc"], 'Did you mean "check"?'),
        (["log", "tial"], 'Did you mean "tail"?'),
        (["rules", "tests"], 'Did you mean "test"?'),
        (["nonsense"], "Commands: init, config, import,"),
    ],
)
def test_a_wrong_command_is_answered_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], words: list[str], meant: str
) -> None:
    assert main(words) == 2
    assert meant in capsys.readouterr().err


@pytest.mark.slow
def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "semroute", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"semroute {__version__}\n")


def test_an_unknown_command_and_an_unknown_option_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert main(["init", "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(QueryError("empty [red]"), 2), (DispatchError("down"), 1)])
def test_an_error_of_ours_is_one_line_with_its_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    add(monkeypatch, error)
    assert main(["raise"]) == code
    captured = capsys.readouterr()
    assert captured.err == f"error: {error}\n"
    assert captured.out == ""


def test_a_long_error_is_not_wrapped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    add(monkeypatch, QueryError("word " * 100 + "end"))
    main(["raise"])
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_is_red_on_a_terminal_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, QueryError("empty"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["raise"])
    assert "\x1b[31merror: empty" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    main(["raise"])
    assert "\x1b[31m" not in capsys.readouterr().err


def test_ctrl_c_is_called_an_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    add(monkeypatch, KeyboardInterrupt())
    assert main(["raise"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_an_error_that_is_not_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["raise"])


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error_worth_words() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*COMMAND, "--help"], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert done.returncode == 1
    assert done.stderr == ""

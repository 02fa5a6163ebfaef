from __future__ import annotations

import ast
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from semroute.evaluate.metrics import Interval

SCRIPTS = Path(__file__).parents[2] / "scripts"
ECHO = """
from harness.processes import answer_channel, serve
answers = answer_channel()
print("a library's words")
serve({"twice": lambda text: [text, text]}, answers)
"""


@pytest.fixture(scope="module")
def parts() -> tuple[ModuleType, ModuleType]:
    return import_module("harness.processes"), import_module("harness.report")


@pytest.fixture
def processes(parts: tuple[ModuleType, ModuleType]) -> ModuleType:
    return parts[0]


@pytest.fixture
def report(parts: tuple[ModuleType, ModuleType]) -> ModuleType:
    return parts[1]


@pytest.mark.slow
def test_a_contender_answers_in_order_whatever_it_prints(processes: ModuleType) -> None:
    with processes.Worker([sys.executable, "-c", ECHO]) as worker:
        worker.tell("twice", text="a")
        worker.tell("twice", text="b\n")
        assert [worker.answer(), worker.answer()] == [["a", "a"], ["b\n", "b\n"]]
        assert worker.start_s > 0


def test_a_contender_that_ends_is_an_error_and_no_wait(processes: ModuleType) -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        processes.Worker([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_command_is_timed_and_its_failure_has_its_words(processes: ModuleType) -> None:
    assert processes.timed([sys.executable, "-c", "print('out')"]).output == "out\n"
    with pytest.raises(SystemExit, match=r"(?s)ended with 1.*no such thing"):
        processes.timed([sys.executable, "-c", "raise KeyError('no such thing')"])


def test_the_package_of_the_checkout_comes_first(processes: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "semroute.py").write_text("print('of the checkout')\n")
    taken = processes.timed([sys.executable, "-P", "-c", "import semroute"], env=processes.environment(tmp_path))
    assert taken.output == "of the checkout\n"
    assert processes.environment()["PYTHONPATH"].split(os.pathsep)[0] == str(SCRIPTS)


def test_tables_and_results_are_written_as_they_are_printed(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.md"
    rows = [*report.head("what", "ms"), report.row("a", 1), report.judged("b", goal="2 ms", met=False)]
    report.publish(iter(rows), out, {"ms": 1})
    text = "| what | ms |\n| --- | --- |\n| a | 1 |\n| b | 2 ms | missed |\n"
    assert out.read_text() == capsys.readouterr().out == text
    assert json.loads((tmp_path / "found.json").read_text()) == {"ms": 1}


def test_a_figure_has_its_interval_and_its_sign(report: ModuleType) -> None:
    assert report.with_interval(Interval(0.5, 0.25, 0.75), "+") == "+0.500 (+0.250 to +0.750)"
    assert report.with_interval(Interval(float("nan"), 0.0, 1.0)) == "-"


@pytest.mark.slow
def test_no_script_imports_the_command_line() -> None:
    """What a script shares with a command is a workflow, or the harness; a command may be run as a process."""
    found = [
        f"{path.relative_to(SCRIPTS)}:{node.lineno}"
        for path in sorted(SCRIPTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if any(name.split(".")[:2] == ["semroute", "cli"] for name in _imported(node))
    ]
    assert found == []


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module is not None:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []

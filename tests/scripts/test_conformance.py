from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from semroute.testing.answers import RecordedRequest

pytest.importorskip("uvicorn", reason='needs the extra "serve"')
SCRIPTS = Path(__file__).parents[2] / "scripts"


def part(name: str) -> ModuleType:
    return __import__(f"gateway_conformance.{name}", fromlist=["x"])


def test_only_a_check_that_returns_is_a_yes() -> None:
    verdicts = part("verdicts")

    def raise_(error: Exception) -> None:
        raise error

    assert str(verdicts.verdict(lambda: None)) == "yes"
    assert str(verdicts.verdict(lambda: raise_(verdicts.NotRunError("npm")))) == "not run: npm"
    assert str(verdicts.verdict(lambda: raise_(part("rows").NotHeldError("a|b\nc")))) == "no: a/b c"
    assert str(verdicts.verdict(lambda: raise_(KeyError()))) == "no: KeyError"


def test_a_table_counts_what_holds_of_what_ran() -> None:
    verdicts = part("verdicts")
    cells = [verdicts.Verdict(word) for word in ("yes", "no", "not run", "-")]
    assert list(verdicts.table(("row", *"abcd"), [("first", cells)]))[2:] == [
        "| first | yes | no | not run | - |",
        "",
        "1 of 2 hold.",
    ]


def test_every_row_of_the_issue_is_there_once_and_means_something_in_a_format() -> None:
    rows = part("rows")
    assert "".join(row.letter for row in rows.ROWS) == "abcdefghijk"
    assert all(row.checks and set(row.checks) <= set(rows.FORMATS) for row in rows.ROWS)


OPENAIS = {"type": "function", "function": {"name": "bash", "parameters": {"properties": {"command": {}}}}}
ANTHROPICS = {"name": "Bash", "input_schema": {"properties": {"command": {"type": "string"}, "description": {}}}}
CODEX = {
    "type": "function",
    "function": {"name": "shell", "parameters": {"properties": {"command": {"type": "array"}}}},
}


@pytest.mark.parametrize(
    ("tool", "result", "arguments"),
    [
        (OPENAIS, {"role": "tool", "content": "done"}, {"command": "echo done > file1.txt"}),
        (
            ANTHROPICS,
            {"role": "user", "content": [{"type": "tool_result", "content": "done"}]},
            {"command": "echo done > file1.txt", "description": "Write a file"},
        ),
        (CODEX, {"role": "tool", "content": "done"}, {"command": ["bash", "-c", "echo done > file1.txt"]}),
    ],
)
def test_the_scripted_model_calls_the_agents_own_shell_twice(
    tool: dict[str, Any], result: dict[str, Any], arguments: dict[str, Any]
) -> None:
    agents = part("agents")

    def reply(*messages: dict[str, Any], tools: list[dict[str, Any]]) -> Any:
        body = {"messages": [{"role": "user", "content": "go"}, *messages], "tools": tools}
        return agents.scripted(RecordedRequest("POST", "/v1", {}, body)).answer

    (call,) = reply(result, tools=[tool]).calls
    assert call.arguments == arguments or dict(call.arguments) == arguments
    assert reply(result, result, tools=[tool]).text == agents.LAST_WORD
    assert reply(tools=[]).text == "A title"


@pytest.mark.parametrize(("thinking", "reasoning"), [({"type": "adaptive"}, "A file first."), (None, "")])
def test_the_scripted_model_thinks_before_a_call_only_where_it_is_asked_to(thinking: Any, reasoning: str) -> None:
    body = {"messages": [{"role": "user", "content": "go"}], "tools": [ANTHROPICS], "thinking": thinking}
    assert part("agents").scripted(RecordedRequest("POST", "/v1", {}, body)).answer.reasoning == reasoning

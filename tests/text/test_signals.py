from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text.signals import STALL, ToolHistory, is_in_plan_mode, tool_history

ASK: dict[str, Any] = {"role": "user", "content": "fix the failing test in the repository"}
REMINDER: dict[str, Any] = {"role": "user", "content": "<system-reminder>\nThe todo list is empty.\n</system-reminder>"}
CALLS = st.tuples(st.sampled_from(["read", "run"]), st.sampled_from(["a", "b"]), st.sampled_from(["ok", "Error: no"]))


def turn(number: int, name: str, arguments: str, result: str, **more: Any) -> list[dict[str, Any]]:
    """Return a call and its result in OpenAI's shape."""
    function = {"name": name, "arguments": arguments}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": f"c{number}", "function": function}]}
    return [called, {"role": "tool", "tool_call_id": f"c{number}", "content": result, **more}]


def of_anthropic(number: int, name: str, arguments: str, result: str) -> list[dict[str, Any]]:
    """Return the same in Anthropic's blocks."""
    use = {"type": "tool_use", "id": f"c{number}", "name": name, "input": {"x": arguments}}
    answered = {"type": "tool_result", "tool_use_id": f"c{number}", "content": result}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [answered]}]


def loop(calls: list[tuple[str, str, str]], shape: Any = turn) -> list[dict[str, Any]]:
    return [ASK, *(message for number, call in enumerate(calls) for message in shape(number, *call))]


@given(st.lists(CALLS, max_size=12), st.lists(CALLS, max_size=4), st.booleans())
def test_the_runs_at_the_end_are_counted_since_the_users_last_words(
    calls: list[tuple[str, str, str]], earlier: list[tuple[str, str, str]], has_note: bool
) -> None:
    messages = [*loop(earlier), *loop(calls), *([REMINDER] if has_note else [])]
    same = next((n for n, call in enumerate(reversed(calls)) if call != calls[-1]), len(calls))
    failed = [result if result != "ok" else None for _, _, result in calls]
    errors = next((n for n, error in enumerate(reversed(failed)) if error is None), len(failed))
    all_errors = sum(error is not None for error in failed)
    expected = ToolHistory(len(calls), same, errors, all_errors) if calls else ToolHistory()
    assert tool_history(messages) == expected
    assert expected.is_stalled is (max(same, errors) >= STALL)


@pytest.mark.slow
@given(st.lists(CALLS, max_size=6))
def test_both_vendors_shapes_have_the_same_history(calls: list[tuple[str, str, str]]) -> None:
    assert tool_history(loop(calls)) == tool_history(loop(calls, of_anthropic))


def test_the_same_call_that_brings_something_new_is_no_stall() -> None:
    polled = [("wait", "{}", f"{number} of 9 tests have passed") for number in range(9)]
    assert not tool_history(loop(polled)).is_stalled
    assert str(tool_history(loop([("read", "{}", "text")] * 4))) == "the same call 4 times in a row"
    tried = [("run", str(number), "command failed") for number in range(3)]
    assert str(tool_history(loop(tried))) == "the same error 3 times in a row"


def test_an_error_is_known_by_its_mark_or_by_its_words() -> None:
    for result, more in (("no such file", {"is_error": True}), ("<tool_use_error>no", {}), ("Exit code 1\nx", {})):
        messages = [
            ASK,
            *(message for number in range(3) for message in turn(number, "run", str(number), result, **more)),
        ]
        assert tool_history(messages).repeated_errors == 3
    assert tool_history(loop([("run", "x", "exit code 0")])).repeated_errors == 0


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool"}, {"role": "tool", "content": 3}, {"role": "tool", "tool_call_id": None, "content": None},
        {"role": "assistant", "tool_calls": [None, 3, {}]}, {"role": "assistant", "tool_calls": "x"}, {},
        {"role": "user", "content": [{"type": "tool_result"}, {"type": "tool_use"}, None]},
    ],
    ids=str,
)  # fmt: skip
def test_malformed_messages_have_a_history_all_the_same(message: dict[str, Any]) -> None:
    for messages in ([message], [ASK, message], [message] * 5):
        assert not tool_history(messages).is_stalled or len(messages) > STALL
        assert not is_in_plan_mode(messages)


CLAUDE = "<system-reminder>\nPlan mode is active. The user indicated that they do not want you to execute yet."
OPENCODE = "<system-reminder>\n# Plan Mode - System Reminder\n\nPlan mode ACTIVE"
CODEX = "<collaboration_mode># Plan Mode (Conversational)\n\nYou work in 3 phases"
OVER = (
    "<system-reminder>\n## Exited Plan Mode\n\nYou have exited plan mode.",
    "<system-reminder>\nYour operational mode has changed from plan to build.",
    "<collaboration_mode># Collaboration Mode: Default",
)


@pytest.mark.parametrize(("begins", "ends"), list(zip((CLAUDE, OPENCODE, CODEX), OVER, strict=True)),
                         ids=["claude", "opencode", "codex"])  # fmt: skip
def test_plan_mode_is_known_by_the_agents_newest_word(begins: str, ends: str) -> None:
    role = "developer" if "collaboration" in begins else "user"
    on, off = {"role": role, "content": begins}, {"role": role, "content": [{"type": "text", "text": ends}]}
    assert is_in_plan_mode([on, ASK])
    assert not is_in_plan_mode([on, off, ASK])
    assert is_in_plan_mode([on, off, on, *turn(1, "read", "{}", "text")])
    assert not is_in_plan_mode([{"role": role, "content": f"{begins}\n{ends}"}])
    assert not is_in_plan_mode([ASK, {"role": "tool", "content": begins}]), "a file may quote it"
    quoted = {"role": "user", "content": "why does it say: Plan mode is active?"}
    assert not is_in_plan_mode([quoted]), "the user may quote it too"

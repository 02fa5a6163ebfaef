"""Signals of an agent's conversation: tools, repetition, plan mode.

Messages are read in OpenAI's shape, and tool calls and results in Anthropic's too. Linear in the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from semroute.text.conversation import has_turn, message_field, parts_of, text_of, user_text

STALL = 3
"""Number of equal calls with equal results, or of equal errors, in a row from which a conversation is stalled."""

_RECENT = 4
"""Messages at the end among which the result of a tool stands while its loop goes on: agents add notes after it."""

_ERROR = re.compile(r"\s*(?:<tool_use_error>|error\b|traceback \(most recent|exit code:? [1-9]|command failed)", re.I)
"""Beginning of a result that is an error, where the format has no mark of it."""

_PLAN_MODE = re.compile(
    # Claude Code, opencode, Codex; each says in its own words that the mode begins or is on,
    r"(?P<on><system-reminder>\s*(?:# Plan Mode - System Reminder|Plan mode (?:is|still) active)"
    r"|<collaboration_mode>\s*# Plan Mode)"
    # or that it is over.
    r"|<system-reminder>\s*(?:## Exited Plan Mode|Your operational mode has changed from plan to build)"
    r"|<collaboration_mode>\s*# Collaboration Mode"
)

_TAGS = ("<system-reminder>", "<collaboration_mode>")
"""Beginnings of these marks."""

ToolCallKey: TypeAlias = tuple[str, str]
"""Name and arguments of a tool call."""


@dataclass(frozen=True, slots=True)
class ToolHistory:
    """History of the tools since the user's last words.

    Attributes:
        results: number of results.
        repeated_calls: length of the run of equal calls with equal results at its end.
        repeated_errors: length of the run of equal errors at its end, whatever was called.
        errors: number of results that are errors.
    """

    results: int = 0
    repeated_calls: int = 0
    repeated_errors: int = 0
    errors: int = 0

    @property
    def is_stalled(self) -> bool:
        """True if the agent repeats a call with its result, or an error."""
        return max(self.repeated_calls, self.repeated_errors) >= STALL

    def __str__(self) -> str:
        if self.repeated_calls >= self.repeated_errors:
            return f"the same call {self.repeated_calls} times in a row"
        return f"the same error {self.repeated_errors} times in a row"


@dataclass(frozen=True, slots=True)
class _Result:
    call: ToolCallKey | None
    text: str
    is_error: bool


def tool_history(messages: Sequence[object]) -> ToolHistory:
    """Return the history of the tools since the user's last words."""
    # Most conversations have no tools, and need no search for the last words.
    if not any(_has_result(message) for message in messages[-_RECENT:]):
        return ToolHistory()
    results = list(_results(messages[_after_ask(messages) :]))
    if not results:
        return ToolHistory()
    last = results[-1]
    calls = errors = 0
    for result in reversed(results):
        if last.call is None or (result.call, result.text) != (last.call, last.text):
            break
        calls += 1
    for result in reversed(results):
        if not result.is_error or result.text != last.text:
            break
        errors += 1
    return ToolHistory(len(results), calls, errors, sum(result.is_error for result in results))


def is_in_plan_mode(messages: Sequence[object]) -> bool:
    """Return True if a coding agent plans, and changes nothing yet.

    Its newest word on it counts.
    """
    for message in reversed(messages):
        if message_field(message, "role") not in ("user", "system", "developer"):
            continue
        marks = [mark for text in map(text_of, parts_of(message)) if text for mark in _plan_marks(text)]
        if marks:
            return marks[-1]["on"] is not None
    return False


def _plan_marks(text: str) -> list[re.Match[str]]:
    """Return the marks of a text in their order."""
    marks = []
    # The log asks this of every request: a search for a constant is a hundred times as fast as one for the pattern.
    for tag in _TAGS:
        at = text.find(tag)
        while at >= 0:
            if (mark := _PLAN_MODE.match(text, at)) is not None:
                marks.append(mark)
            at = text.find(tag, at + 1)
    return sorted(marks, key=lambda mark: mark.start())


# Signals as numbers, for the log and for a trained classifier.

Signals: TypeAlias = Mapping[str, float]
"""Signals of a conversation by name, of :data:`SIGNALS`: counts, and True. What is missing is 0."""

NO_SIGNALS: Signals = {}
"""Signals of a single question. A dict, which copies and pickles; nobody writes to it."""

SIGNALS = ("turns", "tool_loop", "tool_errors", "repeated_calls", "repeated_errors", "plan_mode")
"""Names of the signals: user turns, and since the user's last words the results of tools, the errors among them, the
run of equal calls and that of equal errors at the end; whether the agent plans."""


def signals_of(messages: Sequence[object], *, has_tools: bool = False) -> Signals:
    """Return a conversation's signals; none for one turn without tools.

    The log and a trained classifier both call this function, so that a decision sees what training saw. Signals hold
    nothing of the conversation's text.

    Args:
        messages: the conversation.
        has_tools: whether its request offers tools.
    """
    history, turns = tool_history(messages), sum(map(has_turn, messages))
    if not (has_tools or history.results or turns > 1):
        return NO_SIGNALS
    found: dict[str, float] = {
        "tool_loop": history.results,
        "tool_errors": history.errors,
        # The last call alone is a run of one, which says nothing that the loop's length does not.
        "repeated_calls": history.repeated_calls if history.repeated_calls > 1 else 0,
        "repeated_errors": history.repeated_errors if history.repeated_errors > 1 else 0,
        "plan_mode": is_in_plan_mode(messages),
    }
    found = {name: value for name, value in found.items() if value}
    return {"turns": turns, **found} if found or turns > 1 else NO_SIGNALS


def signal_words(signals: Signals) -> str:
    """Return signals as text, such as ``3 turns, tool loop 5``, or ""."""
    words = [f"{signals['turns']:g} turn{'s' * (signals['turns'] != 1)}"] if "turns" in signals else []
    others = {name: value for name, value in signals.items() if name != "turns"}
    words += [name.replace("_", " ") + ("" if value is True else f" {value:g}") for name, value in others.items()]
    return ", ".join(words)


def _after_ask(messages: Sequence[object]) -> int:
    """Return the position after the user's last words."""
    for place in range(len(messages) - 1, -1, -1):
        if message_field(messages[place], "role") == "user" and user_text(messages[place]):
            return place + 1
    return 0


def _has_result(message: object) -> bool:
    return message_field(message, "role") == "tool" or any(_is(part, "tool_result") for part in parts_of(message))


def _results(messages: Sequence[object]) -> Iterator[_Result]:
    """Yield the results of tools in order, with their calls if known."""
    calls: dict[object, ToolCallKey] = {}
    for message in messages:
        calls.update(_calls(message))
        if message_field(message, "role") == "tool":
            yield _result(message, calls.get(_id(message, "tool_call_id")))
            continue
        for part in parts_of(message):
            if _is(part, "tool_result"):
                yield _result(part, calls.get(_id(part, "tool_use_id")))


def _calls(message: object) -> Iterator[tuple[str, ToolCallKey]]:
    """Yield id, name and arguments of a message's tool calls."""
    made = message_field(message, "tool_calls")
    for call in made if isinstance(made, list | tuple) else ():
        function = message_field(call, "function") or message_field(call, "custom")
        given = message_field(function, "arguments") or message_field(function, "input")
        yield _id(call, "id"), (str(message_field(function, "name")), str(given).strip())
    for part in parts_of(message):
        if _is(part, "tool_use"):
            yield _id(part, "id"), (str(message_field(part, "name")), str(message_field(part, "input")))


def _result(owner: object, call: ToolCallKey | None) -> _Result:
    text = "\n".join(filter(None, map(text_of, parts_of(owner))))
    return _Result(call, text, message_field(owner, "is_error") is True or _ERROR.match(text) is not None)


def _is(part: object, kind: str) -> bool:
    return not isinstance(part, str) and message_field(part, "type") == kind


def _id(owner: object, name: str) -> str:
    return str(message_field(owner, name))

"""What can be told of an answer by looking at it: empty, cut off, a refusal, not what was asked for in form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import TypeAlias

from semroute.cascade.check import CheckInput, UncheckableError, unforeseen
from semroute.cascade.refusals import refusal_in
from semroute.cascade.schema import schema_fault
from semroute.config.cascade import SAME, Format
from semroute.texts import LinearPattern, detect_language, prepare_language_detection
from semroute.types import CheckResult

_FENCE = "```"

Fault: TypeAlias = Callable[[CheckInput], Awaitable[str | None]]
"""Finds one kind of fault in an answer."""


class FormatCheck:
    """Rejects what is wrong in form.

    Args:
        wanted: what is looked at.

    Raises:
        MissingExtraError: language or pattern are wanted, and their extra is not installed.
    """

    name = "format"
    wants_logprobs = False

    def __init__(self, wanted: Format) -> None:
        self._faults = tuple(_faults(wanted))

    async def judge(self, answered: CheckInput) -> CheckResult:
        """The first fault, if there is one. A call of a tool is an answer without text, and has only a length."""
        unknown: list[str] = []
        for part, fault in self._faults:
            try:
                reason = await fault(answered)
            except UncheckableError as error:
                unknown.append(f"its {part} cannot be checked ({error})")
            except Exception as error:
                unknown.append(f"its {part} cannot be checked ({unforeseen(error)})")
            else:
                if reason is not None:
                    return CheckResult(self.name, False, reason)
        return CheckResult(self.name, True, "; ".join(unknown) or "its form is right", skipped=bool(unknown))


def _faults(wanted: Format) -> Iterator[tuple[str, Fault]]:
    """Yield the parts of the form that are looked at, with their names."""
    if wanted.refusal:
        yield "refusal", _at_once(_refusal)
    if wanted.empty:
        yield "emptiness", _at_once(_empty)
    if wanted.length:
        yield "length", _at_once(_cut_off)
    if wanted.schema_:
        yield "schema", _schema
    if wanted.fence:
        yield "fence", _at_once(_fence)
    if wanted.language is not None:
        yield "language", _at_once(_language(wanted.language))
    if wanted.pattern is not None:
        yield "pattern", _at_once(_pattern(wanted.pattern))


def _at_once(fault: Callable[[CheckInput], str | None]) -> Fault:
    @wraps(fault)
    async def found(answered: CheckInput) -> str | None:
        return fault(answered)

    return found


def _refusal(answered: CheckInput) -> str | None:
    answer = answered.completion
    if answer.refusal is not None or answer.finish_reason in ("refusal", "content_filter"):
        return "the provider marks it as a refusal"
    found = refusal_in(answer.text)
    return None if found is None else f"it is {found}"


def _empty(answered: CheckInput) -> str | None:
    return None if answered.completion.text.strip() or answered.completion.tool_calls else "it is empty"


def _cut_off(answered: CheckInput) -> str | None:
    return "it was cut off by the limit of tokens" if answered.completion.finish_reason == "length" else None


async def _schema(answered: CheckInput) -> str | None:
    schema = answered.request.json_schema
    if schema is None or answered.completion.tool_calls:
        return None
    return await schema_fault(answered.completion.text, schema)


def _fence(answered: CheckInput) -> str | None:
    lines = answered.completion.text.splitlines()
    marks = sum(line.lstrip().startswith(_FENCE) for line in lines)
    return "a code fence is not closed" if marks % 2 else None


def _language(wanted: str) -> Callable[[CheckInput], str | None]:
    prepare_language_detection()

    def fault(answered: CheckInput) -> str | None:
        expected = detect_language(answered.text) if wanted == SAME else wanted
        written = detect_language(_prose(answered.completion.text))
        if expected is None or written is None or written == expected:
            return None  # where it is not sure, there is nothing to hold against the answer
        return f"it is in {written}, and not in {expected}"

    return fault


def _pattern(pattern: str) -> Callable[[CheckInput], str | None]:
    compiled = LinearPattern(pattern)

    def fault(answered: CheckInput) -> str | None:
        if compiled.found_in(answered.completion.text) or answered.completion.tool_calls:
            return None
        return "the required pattern is not in it"

    return fault


def _prose(text: str) -> str:
    """What is left without code blocks: code is in no language that people speak."""
    return "\n".join(text.split(_FENCE)[::2])

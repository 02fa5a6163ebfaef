"""What can be told of an answer by looking at it: empty, cut off, a refusal, not what was asked for in form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from semroute.cascade.check import Answered
from semroute.cascade.refusals import refusal_in
from semroute.config.cascade import SAME, Format
from semroute.texts import LinearPattern, detect_language, prepare_language_detection
from semroute.types import Checked

_FENCE = "```"


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

    async def judge(self, answered: Answered) -> Checked:
        """The first fault, if there is one. A call of a tool is an answer without text, and has only a length."""
        for fault in self._faults:
            reason = fault(answered)
            if reason is not None:
                return Checked(self.name, False, reason)
        return Checked(self.name, True, "its form is right")


def _faults(wanted: Format) -> Iterator[Callable[[Answered], str | None]]:
    if wanted.refusal:
        yield _refusal
    if wanted.empty:
        yield _empty
    if wanted.length:
        yield _cut_off
    if wanted.schema_:
        yield _schema
    if wanted.fence:
        yield _fence
    if wanted.language is not None:
        yield _language(wanted.language)
    if wanted.pattern is not None:
        yield _pattern(wanted.pattern)


def _refusal(answered: Answered) -> str | None:
    answer = answered.completion
    if answer.refusal is not None or answer.finish_reason in ("refusal", "content_filter"):
        return "the provider marks it as a refusal"
    found = refusal_in(answer.text)
    return None if found is None else f"it is {found}"


def _empty(answered: Answered) -> str | None:
    return None if answered.completion.text.strip() or answered.completion.tool_calls else "it is empty"


def _cut_off(answered: Answered) -> str | None:
    return "it was cut off by the limit of tokens" if answered.completion.finish_reason == "length" else None


def _schema(answered: Answered) -> str | None:
    schema = answered.request.json_schema
    if schema is None or answered.completion.tool_calls:
        return None
    try:
        value: Any = json.loads(answered.completion.text)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({getattr(error, 'msg', 'nested too deeply')})"
    from jsonschema import SchemaError, ValidationError
    from jsonschema.validators import validator_for

    kind = validator_for(dict(schema))
    try:
        kind.check_schema(dict(schema))
        kind(dict(schema)).validate(value)
    except ValidationError as error:
        # Of the message only the rule: the rest repeats the answer.
        return f"it does not follow the schema ({error.json_path} breaks {error.validator})"
    except SchemaError:
        return None  # the schema itself is wrong, which no other tier can mend
    return None


def _fence(answered: Answered) -> str | None:
    lines = answered.completion.text.splitlines()
    marks = sum(line.lstrip().startswith(_FENCE) for line in lines)
    return "a code fence is not closed" if marks % 2 else None


def _language(wanted: str) -> Callable[[Answered], str | None]:
    prepare_language_detection()

    def fault(answered: Answered) -> str | None:
        expected = detect_language(answered.text) if wanted == SAME else wanted
        written = detect_language(_prose(answered.completion.text))
        if expected is None or written is None or written == expected:
            return None  # where it is not sure, there is nothing to hold against the answer
        return f"it is in {written}, and not in {expected}"

    return fault


def _pattern(pattern: str) -> Callable[[Answered], str | None]:
    compiled = LinearPattern(pattern)

    def fault(answered: Answered) -> str | None:
        if compiled.found_in(answered.completion.text) or answered.completion.tool_calls:
            return None
        return "the required pattern is not in it"

    return fault


def _prose(text: str) -> str:
    """What is left without code blocks: code is in no language that people speak."""
    return "\n".join(text.split(_FENCE)[::2])

"""What a provider's error body says, whatever its shape.

Sources of the shapes: https://platform.openai.com/docs/guides/error-codes (OpenAI, vLLM, most servers),
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter (Azure),
https://docs.anthropic.com/en/api/errors, https://cloud.google.com/apis/design/errors (Gemini),
https://openrouter.ai/docs/api-reference/errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

MAX_QUOTED = 300
"""Characters of a provider's own message that an error repeats."""

_MAX_LOOKED_AT = 20 * MAX_QUOTED

_Json: TypeAlias = Mapping[str, Any]

_CODE = re.compile(r"[\w.:-]{1,64}", re.ASCII)
"""A machine's code; whatever is longer, or has a space, is a text and may be a caller's."""

PER_DAY = "quota_per_day"
"""Code that :func:`read` adds where Google names a quota that lasts a day; its words are the same for every quota."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error body, read.

    Attributes:
        message: the provider's words, unquoted; empty where it says none.
        codes: every type, code, status and reason in it, in lower case, each once, the error's own first.
    """

    message: str
    codes: tuple[str, ...]

    def says(self, *words: str) -> bool:
        """Whether the message holds any of ``words`` (lower case)."""
        message = self.message.lower()
        return any(word in message for word in words)


def read(answer: object) -> ErrorReport:
    """Read an error body: parsed JSON, or the text itself where it was not JSON."""
    if isinstance(answer, str):
        return ErrorReport(answer, ())
    outer = _outer(answer)
    inner = _mapping(outer.get("error"))
    found = (str(code) for code in _codes(outer, inner) if isinstance(code, str | int))
    codes = dict.fromkeys(code.lower() for code in found if _CODE.fullmatch(code))
    return ErrorReport(_message(answer, outer, inner), tuple(codes))


def metadata_headers(answer: object) -> dict[str, str]:
    """Return the upstream's headers that OpenRouter repeats in an error's ``metadata``."""
    found = _mapping(_mapping(_mapping(_outer(answer).get("error")).get("metadata")).get("headers"))
    return {name: str(value) for name, value in found.items() if isinstance(value, str | int)}


def has_error(answer: object) -> bool:
    """Whether a body that came with a 200 is an error all the same."""
    outer = _outer(answer)
    # Anthropic and older vLLM say of the object itself that it is an error.
    return bool(outer.get("error")) or "error" in (outer.get("object"), outer.get("type"))


def details(answer: object) -> list[_Json]:
    """The ``details`` of a Google error (https://cloud.google.com/apis/design/errors#error_details)."""
    found = _mapping(_outer(answer).get("error")).get("details")
    return [detail for detail in found if isinstance(detail, Mapping)] if isinstance(found, list) else []


def quote(text: str, key: str | None) -> str:
    """A provider's words made safe to print: one line, no control characters, no key, not too long."""
    # The key goes first, whole: after a cut, a part of it would not be found.
    start = (text.replace(key, "[key]") if key else text)[:_MAX_LOOKED_AT]
    printable = "".join(character if character.isprintable() else " " for character in start)
    words = " ".join(printable.split())
    return words if len(words) <= MAX_QUOTED else words[: MAX_QUOTED - 1] + "…"


def _outer(answer: object) -> _Json:
    # Gemini wraps errors of its streams in a list.
    return _mapping(answer[0] if isinstance(answer, list) and answer else answer)


def _mapping(value: object) -> _Json:
    return value if isinstance(value, Mapping) else {}


def _codes(outer: _Json, inner: _Json) -> Iterator[object]:
    nested = (_mapping(inner.get(name)) for name in ("innererror", "metadata", "details"))
    for level in (inner, outer, *nested):
        for name in ("code", "type", "status", "error_type", "error_code", "limit_source"):
            yield level.get(name)
    for detail in details(outer):
        yield detail.get("reason")
        violations = detail.get("violations")
        if any(_is_daily(violation) for violation in (violations if isinstance(violations, list) else ())):
            yield PER_DAY


def _is_daily(violation: object) -> bool:
    limit = _mapping(violation)
    name = f"{limit.get('quotaId')} {limit.get('quotaMetric')}".lower()
    return "perday" in name or "per_day" in name


def _message(answer: object, outer: _Json, inner: _Json) -> str:
    error = outer.get("error")
    for words in (inner.get("message"), error, outer.get("message"), outer.get("detail"), *_codes({}, inner)):
        if isinstance(words, str | int) and words:
            return str(words)
    return json.dumps(answer, default=str, ensure_ascii=False) if answer else ""

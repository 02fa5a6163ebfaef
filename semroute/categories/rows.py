"""A value out of a row, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping

from semroute.categories.notes import Report, shortened

_SURROGATE = re.compile("[\ud800-\udfff]")


def query_text(row: Mapping[str, object], line: int, report: Report) -> str | None:
    """The text under ``query`` without surrounding whitespace; None, and a report, where there is none to use."""
    if "query" not in row:
        report(no_query(row), line)
        return None
    value = row["query"]
    if not isinstance(value, str):
        report(f'"query" must be text, not {kind(value)}; put it in quotes', line)
        return None
    return usable(value, '"query"', line, report)


def is_blank(row: Mapping[str, object]) -> bool:
    """Whether a row has a ``query`` without text, as spreadsheets leave them behind: text of spaces, or nothing."""
    value = row.get("query", "-")
    return value is None or (isinstance(value, str) and not value.strip())


def no_query(row: Mapping[str, object]) -> str:
    """The message for a row without ``query``."""
    return f'has no key "query" (its keys: {shortened(", ".join(row))}); put the query under "query"'


def usable(text: str, what: str, line: int, report: Report) -> str | None:
    """``text`` without surrounding whitespace; None, and a report, where it is blank or no valid Unicode."""
    text = text.strip()
    if not text:
        report(f"{what} is blank; write it, or remove it", line)
        return None
    if not text.isascii() and _SURROGATE.search(text):
        report(f"{what} holds half of a UTF-16 surrogate pair; correct the \\u escape", line)
        return None
    return text


def kind(value: object) -> str:
    """The JSON name of a value's type, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"

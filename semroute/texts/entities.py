"""How many names, dates, amounts and acronyms a text holds, by rule: no model is asked."""

from __future__ import annotations

import re

_NAME = re.compile(r"(?<=[^\W_][,;]\s|[^\W_]{2}\s)[A-Z][^\W\d_]+(?:\s[A-Z][^\W\d_]+){0,3}")
_ACRONYM = re.compile(r"\b[A-Z]{2,6}s?\b")
_DATE = re.compile(
    r"\b(?:1\d{3}|20\d{2})\b"
    r"|\b(?:January|February|March|April|June|July|August|September|October|November|December)\b"
    r"|\b\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}\b"
)
_AMOUNT = re.compile(r"[$€£¥]\s?\d|\d\s?(?:%|percent\b|per cent\b|dollars?\b|euros?\b|pounds?\b)")


def names(text: str) -> int:
    """Capitalised words, or runs of them, that do not begin a sentence; of Latin script, and of English or the like.

    German nouns count as names, and a script without capitals has none.
    """
    return len(_NAME.findall(text))


def acronyms(text: str) -> int:
    """Words of two to six capitals."""
    return len(_ACRONYM.findall(text))


def dates(text: str) -> int:
    """Years from 1000 to 2099, names of months, and dates in figures."""
    return len(_DATE.findall(text))


def amounts(text: str) -> int:
    """Sums of money and percentages."""
    return len(_AMOUNT.findall(text))

"""Extraction of numbers from a text, and checks of its sums.

Sums such as ``3 x 60 = 180`` are checked without a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SEEN = 8000
"""Characters at the end of a text that are read."""

_NUMBER = re.compile(r"(?<![\w.,])\d(?:[\d,]{0,15}\d)?(?:\.\d{1,9})?(?!\d)")
_TERM = r"\(?[ ]?[-$€£]{0,2}\d[\d,]{0,15}(?:\.\d{1,9})?[ ]?%?[ ]?\)?"
# A sum is matched as far as it goes and never tried in parts (an atomic group): its many optional spaces would
# otherwise be tried in every combination before a text without "=" is given up.
_STATED = re.compile(
    rf"(?<![\d.,])((?>{_TERM}(?:[ ]?[-+*/x×÷][ ]?{_TERM}){{1,12}}))"
    r"[ ]?=[ ]?[$€£]?[ ]?(-?\d[\d,]{0,15}(?:\.\d{1,9})?)"
    r"(?![\d,.]{0,15}\d|[ ]?%?[ ]?[-+*/x×÷(])"
)
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|[-+*/()%]")
_SAME = str.maketrans({"x": "*", "×": "*", "÷": "/", "$": "", "€": "", "£": "", " ": ""})
_NEAR = 0.006
"""Relative difference up to which a stated result counts as rounded and not as wrong."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Counts of right and wrong sums in a text."""

    right: int
    wrong: int


def numbers(text: str) -> list[float]:
    """Return the numbers of a text in order, without their signs.

    ``1,200.5`` is 1200.5.
    """
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text[-SEEN:])]


def arithmetic(text: str) -> Arithmetic:
    """Check the sums of a text.

    They have two to thirteen numbers, the four operations, brackets, per cent. A result may be rounded to about half a
    per cent, and stand for a share as per cent (``1/4 = 25``). A text that cannot be
    parsed as a sum is not counted. Calculator marks, as of GSM8K, ``<<3*60=180>>``, are read as sums too.
    """
    window = text[-SEEN:].replace("<<", " ; ").replace(">>", " ; ")
    right_count = wrong_count = 0
    for expression, result in _STATED.findall(window):
        value = _value(expression)
        if value is None:
            continue
        stated = float(result.replace(",", ""))
        is_right = any(
            abs(candidate - stated) <= _NEAR * max(1.0, abs(candidate)) for candidate in (value, 100.0 * value)
        )
        right_count += is_right
        wrong_count += not is_right
    return Arithmetic(right_count, wrong_count)


def _value(words: str) -> float | None:
    """Return the value of a sum; None if it is malformed or divides by zero."""
    normalized = words.translate(_SAME)
    tokens = _TOKEN.findall(normalized)
    reader = _ExpressionParser(tokens)
    try:
        value = reader.sum()
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return value if reader.at == len(tokens) else None


class _ExpressionParser:
    """Recursive-descent parser of sums of products of signed terms."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self.at = 0

    def sum(self) -> float:
        value = self._product()
        while (sign := self._take("+", "-")) is not None:
            operand = self._product()
            value = value + operand if sign == "+" else value - operand
        return value

    def _product(self) -> float:
        value = self._term()
        while (sign := self._take("*", "/")) is not None:
            operand = self._term()
            value = value * operand if sign == "*" else value / operand
        return value

    def _term(self) -> float:
        if self._take("-") is not None:
            return -self._term()
        if self._take("(") is not None:
            value = self.sum()
            if self._take(")") is None:
                raise ValueError
        else:
            value = float(self._tokens[self.at].replace(",", ""))
            self.at += 1
        return value / 100.0 if self._take("%") is not None else value

    def _take(self, *tokens: str) -> str | None:
        if self.at < len(self._tokens) and self._tokens[self.at] in tokens:
            self.at += 1
            return self._tokens[self.at - 1]
        return None

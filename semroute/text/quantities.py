"""Numbers, units, dates and lists of short answers, in one form each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

MOST_CHARACTERS = 80
"""Most characters of a number with its unit."""
MOST_ITEMS = 12
"""Most items of a list."""
MOST_WORDS = 6
"""Most words of a list, or of a label."""

_NUMBER = re.compile(
    r"(?:about |approximately |≈ ?|= ?)?(-)?[ ]?([$€£]|usd |eur )?[ ]?(-)?"
    r"(\d{1,3}(?:,\d{3}){1,8}(?:\.\d{1,12})?|\d{1,24}(?:\.\d{1,12})?|\.\d{1,12})"
    r"(?:[ ](\d{1,12})(?=[ ]?/))?(?:[ ]?/[ ]?(\d{1,12}))?(?:e([-+]?\d{1,3}))?[ ]?(%|percent\b)?"
    r"(?:[ ]?([$€£°]|[^\W\d_])([^\d=+*^,.;:(){}\\]{0,40}))?"
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALE = re.compile(r"\s*(thousand|million|billion)s?\b\s*")
_CURRENCIES = {"$": "dollar", "usd": "dollar", "€": "euro", "eur": "euro", "£": "pound"}
_UNITS = re.compile(r"(°?[ ]?[^\W\d_]+|[$€£°])(?:[ ]?(?:/|per)[ ]?([^\W\d_]+))?")


def _spellings() -> Mapping[str, str]:
    units = {
        "second": "s sec secs", "minute": "min mins", "hour": "h hr hrs", "day": "d", "week": "wk", "month": "",
        "year": "yr yrs", "mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre",
        "km": "kilometer kilometre", "inch": "inches in", "foot": "feet ft", "mile": "mi", "mg": "milligram",
        "g": "gram", "kg": "kilogram", "pound": "lb lbs £", "ounce": "oz", "ml": "milliliter millilitre",
        "l": "liter litre", "cent": "¢", "dollar": "$ usd buck", "euro": "€ eur", "kb": "", "mb": "", "gb": "",
        "degree": "°", "°c": "c celsius", "°f": "f fahrenheit", "point": "", "percent": "",
    }  # fmt: skip
    found = {}
    for name, others in units.items():
        for spelling in (name, *others.split()):
            found[spelling] = name
            if len(spelling) > 2:
                found[f"{spelling}s"] = name
    return MappingProxyType(found)


_SPELLINGS = _spellings()
_MULTIPLES: Mapping[str, Mapping[str, int | Fraction]] = {
    "time": {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800},
    "metres": {"mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": 1, "km": 1000},
    "feet": {"inch": Fraction(1, 12), "foot": 1, "mile": 5280},
    "mass": {"mg": Fraction(1, 1000), "g": 1, "kg": 1000},
    "volume": {"ml": Fraction(1, 1000), "l": 1},
    "dollars": {"cent": Fraction(1, 100), "dollar": 1},
}
_MEASURES = {
    unit: (measure, Fraction(factor)) for measure, units in _MULTIPLES.items() for unit, factor in units.items()
}
"""Dimension of a unit, and how many of one common unit it is: for units that are exact multiples of each other."""


def same_quantity(first: Fraction, unit: str, second: Fraction, other_unit: str) -> bool:
    """Return True if two quantities are equal.

    A number without unit takes the other's.
    """
    if not unit or not other_unit or unit == other_unit:
        return first == second
    one, other = _MEASURES.get(unit), _MEASURES.get(other_unit)
    if one is None or other is None or one[0] != other[0]:
        return False
    return first * one[1] == second * other[1]


def number(text: str) -> tuple[Fraction, str, bool] | None:
    """Return value, unit and percentage of a folded number, or None."""
    found = _NUMBER.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    if found is None:
        return None
    before, currency, after, digits, numerator, divisor, exponent, percent, initial, rest = found.groups()
    if divisor is not None and int(divisor) == 0:
        return None
    value = Fraction(digits.replace(",", ""))
    if numerator is not None:  # a mixed number: 1 1/2
        value += Fraction(int(numerator), int(divisor))
    else:
        value /= int(divisor or 1)
    value *= Fraction(10) ** int(exponent or 0)
    words = (initial or "") + (rest or "")
    scale = _SCALE.match(words)
    if scale:
        value *= _SCALES[scale[1]]
        words = words[scale.end() :]
    unit = _unit(words) or _CURRENCIES.get((currency or "").strip(), "")
    return (-value if before or after else value), unit, percent is not None


def _unit(words: str) -> str:
    """Return the unit at the beginning of the words after a number, or ""."""
    found = _UNITS.match(words)
    if found is None:
        return ""
    name, per = (_SPELLINGS.get((part or "").replace(" ", "")) for part in found.groups())
    if found[1] == "mph":
        name, per = "mile", "hour"
    if name is None:
        return ""
    return name if found[2] is None else f"{name}/{per or found[2]}"


# Dates, in the form of ISO 8601. Days and months as two numbers are ambiguous, and stay as they are written.

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
_MONTH = rf"({'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in _MONTHS)}|sept)\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?"
_ISO = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})")
_MONTH_FIRST = re.compile(rf"{_WEEKDAY}{_MONTH} {_DAY}(?:,? (\d{{4}}))?")
_DAY_FIRST = re.compile(rf"{_WEEKDAY}(?:the )?{_DAY} (?:of )?{_MONTH}(?:,? (\d{{4}}))?")


def date(text: str) -> str | None:
    """Return the ISO form of a folded text that is a date; None if it is none."""
    found = _ISO.fullmatch(text)
    if found:
        year, month, day = found[1], int(found[2]), int(found[3])
    elif found := _MONTH_FIRST.fullmatch(text):
        year, month, day = found[3] or "-", _month(found[1]), int(found[2])
    elif found := _DAY_FIRST.fullmatch(text):
        year, month, day = found[3] or "-", _month(found[2]), int(found[1])
    else:
        return None
    return f"{year}-{month:02}-{day:02}" if 1 <= month <= 12 and 1 <= day <= 31 else None


def _month(name: str) -> int:
    return next(number for number, month in enumerate(_MONTHS, 1) if month.startswith(name[:3]))


# Lists: of numbers without an order, unless they are a tuple; of words in their order.

_WRAPPED = re.compile(r"(\\?[({\[])(.*?)(\\?[)}\]])")
_COMMA = re.compile(r"\s*(?:,|;)\s*(?:and |or )?|\s+(?:and|or)\s+")


def listed(text: str) -> str | None:
    """Return the canonical form of a folded list; None if it is none.

    A list has two items or more.
    """
    wrapped = _WRAPPED.fullmatch(text)
    opening = wrapped[1][-1] if wrapped else ""
    items = [item.strip() for item in _COMMA.split(wrapped[2] if wrapped else text)]
    if not 2 <= len(items) <= MOST_ITEMS or not all(items):
        return None
    numbers = [number(item.rsplit("=", 1)[-1].strip()) for item in items]
    values = [str(found[0]) for found in numbers if found is not None and not found[2]]
    if len(values) == len(items):
        ordered = values if opening in ("(", "[") else sorted(set(values), key=Fraction)
        return f"{opening if opening in ('(', '[') else '{'}{', '.join(ordered)}"
    # Words that are joined by "and" alone may be one name, and many words are a sentence.
    if (not wrapped and "," not in text and ";" not in text) or len(text.split()) > MOST_WORDS:
        return None
    return f"{opening}{', '.join(sorted(items) if opening == '{' else items)}"

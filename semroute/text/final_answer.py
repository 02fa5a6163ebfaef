"""Final answer of a text: option, number, JSON value, yes or no, label."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from semroute.text.code import looks_like_code
from semroute.text.normalise import folded

Kind: TypeAlias = Literal["option", "number", "json", "yes_no", "label"]

SEEN = 8000
"""Characters at the end of a text that are read."""
MOST_WORDS = 6
"""Most words of a label."""
MOST_DIGITS = 40
"""Most characters of a number."""

_REASONING = frozenset({"reasoning", "explanation", "thoughts", "thought", "rationale", "analysis", "steps"})
_ANSWERS = ("answer", "final_answer", "label", "result")
_FENCED = re.compile(r"```([\w+-]*)[^\n]*\n(.*?)```", re.DOTALL)
_THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_CODE_WANTED = re.compile(
    r"\b(?:write|implement|fix|refactor|debug)\b[^.?!\n]{0,80}"
    r"\b(?:function|code|program|script|class|query|regex|method|tests?)\b",
    re.IGNORECASE,
)
_OFFERED = re.compile(r"^[ \t]*\(?([A-J])[).:][ \t]*(\S[^\n]{0,300})$", re.MULTILINE)
_MARKED_JSON = re.compile(r'"(?:final_)?answer"\s*:\s*("(?:[^"\\]|\\.){0,400}"|-?\d[\d.,]{0,38})')
_HASHES = re.compile(r"####[ \t]*([^\n]{1,200})")
_STATED = re.compile(r"\b(?:answer|choice|option)[ \t]*\**[ \t]*(?:is|:|=)[ \t]*:?[ \t]*([^\n]{1,200})", re.IGNORECASE)
_LETTER = re.compile(r"(?:option |choice )?\(?([A-J])(?:\)|(?=[.:,;]|$| because| since| as ))", re.IGNORECASE)
_LEADING = re.compile(r"\(?([A-J])(?:[).:](?=\s|$)|\)?\s*$)", re.MULTILINE)
_NUMBER = re.compile(
    r"(?:about |approximately |≈ ?|= ?)?(-)?[ ]?(?:[$€£]|usd |eur )?[ ]?(-)?"
    r"(\d{1,3}(?:,\d{3}){1,8}(?:\.\d{1,12})?|\d{1,24}(?:\.\d{1,12})?|\.\d{1,12})"
    r"(?:[ ]?/[ ]?(\d{1,12}))?(?:e([-+]?\d{1,3}))?[ ]?(%|percent\b)?(?:[ ]([^\d/=+*^,.;:]{1,40}))?"
)
_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d{1,12})\}\{(\d{1,12})\}")
_WRAPPING = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]{0,200})\}")
_YES = {"yes": "yes", "no": "no", "true": "true", "false": "false"}
_YES_LEADING = re.compile(r"(yes|no|true|false)\b(?=[\s,.!:;]|$)", re.IGNORECASE)
_REQUEST = re.compile(r"\b(?:can|could|would|will) you\b|\bplease\b", re.IGNORECASE)
_COUNT_WANTED = re.compile(
    r"\bhow (?:many|much|old|long|far|tall|fast)\b|\bwhat (?:percent|is the (?:\w+ ){0,3}(?:value|sum|total|number|"
    r"cost|price|difference|product|average|probability|area))|\b(?:calculate|compute|evaluate)\b",
    re.IGNORECASE,
)
_NUMBER_IN = re.compile(r"(?<![\w.,])-?\d{1,3}(?:,\d{3}){1,8}(?:\.\d{1,12})?|(?<![\w.,])-?\d{1,24}(?:\.\d{1,12})?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_WARNED_OF = re.compile(r"\\|\d[A-Za-z_]")
"""What the parser of Python warns of: escapes, numbers that run into words. Compared as it is written."""
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALE = re.compile(r"\s*(thousand|million|billion)s?\b\s*")
_UNIT = re.compile(r"(?:hours?|hrs?|minutes?|mins?|seconds?|days?|weeks?|months?|years?|cents?|dollars?|km|miles?|m|cm"
                   r"|mm|kg|g|grams?|kilograms?|meters?|feet|inch(?:es)?|million|billion|thousand)\b")  # fmt: skip


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """Final answer in a form that equal answers share.

    Attributes:
        kind: kind of answer; answers of different kinds differ.
        value: canonical value: capital letters, a fraction, canonical JSON, folded text.
        unit: unit of a number, or an empty string.
        is_percent: True for a number written as a percentage.
    """

    kind: Kind
    value: str
    unit: str = ""
    is_percent: bool = False

    def agrees_with(self, other: FinalAnswer) -> bool:
        """Return True if both say the same; 50% is 50 and 0.5."""
        if self.kind != other.kind or (self.unit and other.unit and self.unit != other.unit):
            return False
        if self.value == other.value:
            return True
        if self.kind != "number" or self.is_percent == other.is_percent:
            return False
        percent, plain = (self, other) if self.is_percent else (other, self)
        return Fraction(percent.value) / 100 == Fraction(plain.value)


def final_answer(text: str, query: str = "") -> FinalAnswer | None:
    """Return what a text answers, or None for free text and code.

    A marked answer counts before an unmarked one (boxed, ``####``, "the answer is"), a later one before an earlier
    one. A number without a mark counts only where the query asks for one, yes or no only at the beginning of the
    answer to a question, a label only as the whole answer.

    Args:
        text: the answer, of which the last :data:`SEEN` characters are read.
        query: its query: the options it offers and what it asks for decide how the answer is read.
    """
    text = _THINKING.sub(" ", text[-SEEN:]).strip()
    if not text or _CODE_WANTED.search(query[:SEEN]):
        return None
    offered = {found[1]: folded(found[2]).strip(" .") for found in _OFFERED.finditer(query[-SEEN:])}
    options = offered if {"A", "B"} <= offered.keys() else {}
    is_exact = looks_like_code(query)  # the value of a program: its case counts
    bare = _unfenced(text)
    if bare.startswith(("{", "[")) or _MARKED_JSON.search(bare):
        found = _json_answer(bare, options, is_exact)
        if found is not None:
            return found
    prose = _FENCED.sub("\n", text)
    for marked in _marked(prose):
        found = _read(marked, options, is_marked=True, is_exact=is_exact)
        if found is not None:
            return found
    if options:
        return _option(prose, options)
    return None if "```" in text else _unmarked(prose, query[-SEEN:])


def _unfenced(text: str) -> str:
    blocks = [found for found in _FENCED.finditer(text) if found[1].casefold() in ("", "json")]
    if blocks and blocks[-1][2].strip().startswith(("{", "[")):
        return blocks[-1][2].strip()
    return text


def _json_answer(text: str, options: dict[str, str], is_exact: bool) -> FinalAnswer | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        found = _MARKED_JSON.findall(text)  # unescaped line breaks and TeX, or an end that was cut off
        return (
            _read(
                found[-1].strip('"').replace('\\"', '"').replace("\\\\", "\\"),
                options,
                is_marked=True,
                is_exact=is_exact,
            )
            if found
            else None
        )
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if str(key).casefold() not in _REASONING}
        if len(value) == 1 and next(iter(value)) in _ANSWERS:
            value = next(iter(value.values()))
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return _read(str(value), options, is_marked=True, is_exact=is_exact)
    try:
        return FinalAnswer("json", json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        return None


def _plain(value: object) -> object:
    """Return a JSON value with whole floats as integers and strings stripped."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value


def _marked(text: str) -> list[str]:
    """Return the marked answers, strongest mark first, the last of each."""
    boxed = _boxed(text)
    found = [boxed] if boxed else []
    for pattern in (_HASHES, _STATED):
        matches = pattern.findall(text)
        found += matches[-1:]
    return found


def _boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + 6, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start + 7 : place]
    return None


def _without_markup(text: str) -> str:
    text = _WRAPPING.sub(r"\1", text)
    text = _FRACTION.sub(r"\1/\2", text)
    for mark in ("**", "__", "\\(", "\\)", "\\[", "\\]", "\\left", "\\right", "\\!", "\\,", "`", "{,}"):
        text = text.replace(mark, "," if mark == "{,}" else "")
    text = text.replace("\\$", "$").replace("\\%", "%").strip(" \t\n*\"'”“")
    if text.startswith("$") and text.rstrip(".").endswith("$") and len(text) > 2:
        text = text.rstrip(".").strip("$").strip()
    return text


def _read(text: str, options: dict[str, str], *, is_marked: bool, is_exact: bool = False) -> FinalAnswer | None:
    """Read a short answer that stands by itself."""
    if is_exact and not options:
        return _literal(text.strip().strip("`").strip())
    text = _without_markup(text.strip())
    boxed = _boxed(text)
    if boxed is not None:
        text = _without_markup(boxed)
    letter = _LETTER.match(text)
    if letter and (letter[0].endswith(")") or letter[1].isupper()):
        rest = text[letter.end() :]
        if re.match(r"[ ]?(?:,|and\b|or\b|&|/)[ ]*\(?[A-J]\b", rest):
            return None  # several letters
        return FinalAnswer("option", letter[1].upper()) if not options or letter[1].upper() in options else None
    if options:
        plain = folded(text).strip(" .")
        same = [name for name, offered in options.items() if offered == plain]
        return FinalAnswer("option", same[0]) if len(same) == 1 else None
    plain = folded(text).rstrip(" .!;:")
    number = _number(plain)
    if number is not None:
        return number
    yes = _YES_LEADING.match(plain)
    if yes and (yes.end() == len(plain) or (is_marked and plain[yes.end()] in ",.;:!")):
        return FinalAnswer("yes_no", _YES[yes[1]])
    if not plain or "\n" in text or len(plain.split()) > MOST_WORDS or not any(map(str.isalnum, plain)):
        return None
    return FinalAnswer("label", plain.strip("\"'"))


def _literal(text: str) -> FinalAnswer | None:
    """Read the value of a program, compared as Python's literals are, or letter by letter."""
    if not text or "\n" in text or len(text) > 10 * MOST_DIGITS:
        return None
    if _WARNED_OF.search(text):
        return FinalAnswer("label", text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return FinalAnswer("label", text)
    try:
        return FinalAnswer("label", value if isinstance(value, str) else repr(value))
    except (ValueError, RecursionError):  # an integer of too many digits
        return None


def _number(text: str) -> FinalAnswer | None:
    found = _NUMBER.fullmatch(text) if len(text) <= 2 * MOST_DIGITS else None
    if found is None:
        return None
    before, after, digits, divisor, exponent, percent, words = found.groups()
    if divisor is not None and int(divisor) == 0:
        return None
    value = Fraction(digits.replace(",", "")) / int(divisor or 1)
    value *= Fraction(10) ** int(exponent or 0)
    scale = _SCALE.match(words or "")
    if scale:
        value *= _SCALES[scale[1]]
        words = (words or "")[scale.end() :]
    unit = _UNIT.match(words or "")
    name = unit[0].rstrip("s") if unit else ""
    return FinalAnswer("number", str(-value if before or after else value), name, percent is not None)


def _option(text: str, options: dict[str, str]) -> FinalAnswer | None:
    """Return the option of an answer without a mark: at its start, or its last line."""
    plain = _without_markup(text)
    lines = [line.strip("*_ \t") for line in plain.splitlines() if line.strip("*_ \t")]
    for line in (lines[0], lines[-1]) if lines else ():
        letter = _LEADING.match(line)
        if letter and letter[1] in options:
            return FinalAnswer("option", letter[1])
    return _read(lines[0], options, is_marked=False) if len(lines) == 1 else None


def _unmarked(text: str, query: str) -> FinalAnswer | None:
    is_request = _REQUEST.search(query) is not None
    yes = _YES_LEADING.match(_without_markup(text))
    if yes and query.rstrip().endswith("?") and not is_request:
        return FinalAnswer("yes_no", _YES[yes[1].casefold()])
    short = None
    if "\n" not in text:
        named = re.sub(r"^(?:label|category|sentiment|class)\s*:\s*", "", text, flags=re.IGNORECASE)
        short = _read(named, {}, is_marked=False)
    if not _COUNT_WANTED.search(query) or (short is not None and short.kind != "label"):
        return short
    return _last_number(text, query) or short


def _last_number(text: str, query: str) -> FinalAnswer | None:
    """Return the one number of the last sentence that is not the query's."""
    sentences = [part for part in _SENTENCE_END.split(_without_markup(text)) if part.strip()]
    last = sentences[-1] if sentences else ""
    found = {number.replace(",", "") for number in _NUMBER_IN.findall(last.rsplit("=", 1)[-1])}
    if len(found) > 1:
        found -= {number.replace(",", "") for number in _NUMBER_IN.findall(query)}
    return FinalAnswer("number", str(Fraction(found.pop()))) if len(found) == 1 else None

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
from semroute.text.quantities import MOST_WORDS, date, listed, number, same_quantity

Kind: TypeAlias = Literal["option", "number", "json", "yes_no", "label"]

SEEN = 8000
"""Characters at the end of a text that are read."""
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
_LETTER = re.compile(r"(?:option |choice )?\(?([A-J])(?:\)|(?=[.:,;]|$| because| since| as | \())", re.IGNORECASE)
_LEADING = re.compile(r"\(?([A-J])(?:[).:](?=\s|$)|\)?\s*$)", re.MULTILINE)
_FRACTION = re.compile(r"(\d)?\s*\\[dt]?frac(?:\{(-?\d{1,12})\}|(\d))(?:\{(\d{1,12})\}|(\d))")
_WRAPPING = re.compile(r"\\(?:text|mathrm|textbf|mathbf|texttt|operatorname)\{([^{}]{0,200})\}")
_DEGREES = re.compile(r"\s*\^\{?\\circ\}?")
_CODE_SPAN = re.compile(r"(?:\*\*)?(`+)\s?(.+?)\s?\1")
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
"""Warnings of Python's parser, of escapes and numbers that run into words: such text is compared as it is."""


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
        """Return True if both answers are equal.

        50% is 50 and 0.5, 90 minutes are 1.5 hours.
        """
        if self.kind != other.kind:
            return False
        if self.kind != "number":
            return self.value == other.value
        if same_quantity(Fraction(self.value), self.unit, Fraction(other.value), other.unit):
            return True
        if self.is_percent == other.is_percent or (self.unit and other.unit and self.unit != other.unit):
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
        if not found:
            return None
        said = found[-1][1:-1] if found[-1].startswith('"') else found[-1]
        return _quoted(said.replace('\\"', '"').replace("\\\\", "\\"), options, is_exact)
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if str(key).casefold() not in _REASONING}
        if len(value) == 1 and next(iter(value)) in _ANSWERS:
            value = next(iter(value.values()))
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return _quoted(str(value), options, is_exact)
    try:
        return FinalAnswer("json", json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        return None


def _quoted(text: str, options: dict[str, str], is_exact: bool) -> FinalAnswer | None:
    """Read an answer whose ends are marked: the value of a program.

    It has no full stop and no markup of its own.
    """
    if is_exact and not options:
        return _literal(text.strip().strip("`").strip())
    return _read(text, options, is_marked=True)


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
        matches = [match for match in pattern.findall(text) if any(map(str.isalnum, match))]
        found += matches[-1:]
    return [_innermost(marked) for marked in found]


def _innermost(text: str) -> str:
    """Return the text of the last of nested marks.

    An example is "final answer: the answer is B".
    """
    while (inner := _STATED.search(text)) is not None and any(map(str.isalnum, inner[1])):
        text = inner[1]
    return text


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
    text = _FRACTION.sub(_fraction, text)
    text = _DEGREES.sub("°", text)
    for mark in ("**", "__", "\\(", "\\)", "\\[", "\\]", "\\left", "\\right", "\\!", "\\,", "`", "{,}"):
        text = text.replace(mark, "," if mark == "{,}" else "")
    text = text.replace("\\$", "$").replace("\\%", "%").replace("½", " 1/2").replace("\u2212", "-")
    text = text.strip(" \t\n*\"'”“").rstrip("\\")
    if text.startswith("$") and text.rstrip(".").endswith("$") and len(text) > 2:
        text = text.rstrip(".").strip("$").strip()
    return text


def _fraction(found: re.Match[str]) -> str:
    whole, top, one_digit, bottom, other_digit = found.groups()
    fraction = f"{top or one_digit}/{bottom or other_digit}"
    return f"{whole} {fraction}" if whole else fraction


def _read(text: str, options: dict[str, str], *, is_marked: bool, is_exact: bool = False) -> FinalAnswer | None:
    """Read a short answer that stands by itself."""
    if is_exact and not options:
        return _literal(_without_sentence(text))
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
    plain = folded(text).strip().rstrip(" .!;:")
    found = number(plain)
    if found is not None:
        value, unit, is_percent = found
        return FinalAnswer("number", str(value), unit, is_percent)
    yes = _YES_LEADING.match(plain)
    if yes and (yes.end() == len(plain) or (is_marked and plain[yes.end()] in ",.;:!")):
        return FinalAnswer("yes_no", _YES[yes[1]])
    if not plain or "\n" in text or not any(map(str.isalnum, plain)):
        return None
    canonical = date(plain) or listed(plain)
    if canonical is not None:
        return FinalAnswer("label", canonical)
    if "\\" in plain:  # TeX, in which spaces say nothing
        plain = plain.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace(" ", "")
    return FinalAnswer("label", plain.strip("\"'")) if len(plain.split()) <= MOST_WORDS else None


def _without_sentence(text: str) -> str:
    """Return a program's value without the sentence around it.

    Removed are markup, a code span and a closing full stop.
    """
    text = _WRAPPING.sub(r"\1", text.strip())
    span = _CODE_SPAN.match(text)
    if span is not None:
        return span[2].strip()
    boxed = _boxed(text)
    text = (text if boxed is None else boxed).strip()
    for mark in ("**", "$", "`"):
        if text.rstrip(".").rstrip().startswith(mark) and text.rstrip(".").rstrip().endswith(mark):
            text = text.rstrip(".").rstrip()[len(mark) : -len(mark)].strip()
    return text.removesuffix(".").strip()  # one within quotation marks is a part of the value


def _literal(text: str) -> FinalAnswer | None:
    """Read the value of a program, as a Python literal or as text.

    A text is compared without its quotation marks: some write them, and some do not.
    """
    if "\n" in text or len(text) > 10 * MOST_DIGITS:
        return None
    value: object = text
    if not _WARNED_OF.search(text):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            value = text
    try:
        return FinalAnswer("label", _unquoted(value) if isinstance(value, str) else repr(value))
    except (ValueError, RecursionError):  # an integer of too many digits
        return None


def _unquoted(text: str) -> str:
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def _option(text: str, options: dict[str, str]) -> FinalAnswer | None:
    """Return the option of an unmarked answer: at its start or last line."""
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

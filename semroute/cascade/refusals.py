"""Detection of refusals and non-answers by their opening.

A model that will not or cannot answer states this at once, in the first person, and adds little. So only the opening is
matched, quotations and code are ignored (a character in a story may refuse), and a long answer always counts as an
answer: "I cannot give medical advice, but …" goes on with what was asked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("refusals.txt")
"""Patterns by kind and language, one a line."""

OPENING = 320
"""Characters within which a refusal must begin."""

MOST_WORDS = 90
"""Most words of a refusal; in scripts without spaces three characters count as a word."""

MOST_WORDS_OF_NOTHING = 45
"""Most words of a non-answer, such as a question back."""

_QUOTED = re.compile('["“„«][^"”“»]{0,2000}["”“»]|「[^」]{0,2000}」|```.*?(?:```|\\Z)|`[^`]{0,500}`', re.DOTALL)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_SPACE = re.compile(r"\s+")
_HEADING = re.compile(r"\[([a-z-]+)(?:: [A-Z][a-z]+)?\]")
_DECORATION = re.compile(r"^[^\w\[<]+")


def refusal_in(text: str) -> str | None:
    """Return ``a refusal``, ``a non-answer``, or None for an answer.

    Takes time linear in the text, microseconds for a short one. ``tests/cascade/test_refusals.py`` measures the
    accuracy.
    """
    # The rest cannot matter: a text of that length is an answer.
    if len(text) > 20 * MOST_WORDS:
        return None
    plain = _plain(text)
    count = _words(plain)
    if count > MOST_WORDS:
        return None
    opening = plain[:OPENING]
    if _pattern("refusals").search(opening):
        return "a refusal"
    if count <= MOST_WORDS_OF_NOTHING and _pattern("non-answers").search(opening):
        return "a non-answer"
    return None


def _plain(text: str) -> str:
    """Return a text without quotations, code and markup, in lower case.

    Apostrophes and spaces are unified.
    """
    said = _QUOTED.sub(" ", unicodedata.normalize("NFKC", text)).replace("’", "'").replace("‘", "'")
    return _DECORATION.sub("", _SPACE.sub(" ", said).lower())


def _words(plain: str) -> int:
    characters = len(_UNSPACED.findall(plain))
    return len(_UNSPACED.sub("", plain).split()) + characters // 3


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    # Each pattern starts at the start of a sentence. Alternatives of plain words match in linear time.
    alternatives = "|".join(patterns()[kind])
    return re.compile(rf"(?:^|[.!?:;。！？,，、] ?|[-–—*] )(?:{alternatives})")


@cache
def patterns() -> Mapping[str, Sequence[str]]:
    """Return the patterns of ``refusals.txt`` by kind, in the file's order.

    ``refusals`` are those of refusals, ``non-answers`` those of "I do not know", a question back, and placeholders.
    """
    text = FILE.read_text("utf-8")
    fragments: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    kind = ""
    for line in text.splitlines():
        if not line or line.startswith("# "):
            continue
        if heading := _HEADING.fullmatch(line):
            kind = heading[1]
        elif kind == "fragments":
            name, _, pattern = line.partition(" = ")
            fragments[f"{{{name}}}"] = pattern
        else:
            for name, pattern in fragments.items():
                line = line.replace(name, pattern)
            found.setdefault(kind, []).append(line)
    return found

"""Refusals and non-answers, known by how they begin.

A model that will not or cannot answer says so at once, in the first person, and then has little more to say. So only
the opening counts, what stands in quotation marks or code does not (a character in a story may refuse), and a long
answer is an answer, however it begins: "I cannot give medical advice, but …" goes on with what was asked for.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from semroute.cascade.refusal_words import NON_ANSWERS, REFUSALS

OPENING = 320
"""Characters in which a refusal has to begin."""

MOST_WORDS = 90
"""A longer answer is taken for an answer; of scripts without spaces three characters count as a word."""

MOST_WORDS_OF_NOTHING = 45
"""The same for what is no refusal and still no answer, such as a question back."""

_QUOTED = re.compile('["“„«][^"”“»]{0,2000}["”“»]|「[^」]{0,2000}」|```.*?(?:```|\\Z)|`[^`]{0,500}`', re.DOTALL)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_SPACE = re.compile(r"\s+")
_DECORATION = re.compile(r"^[^\w\[<]+")


def refusal_in(text: str) -> str | None:
    """``a refusal``, ``a non-answer``, or None for an answer; takes time linear in the text, microseconds for a short one.

    How often it is right is measured in ``tests/cascade/test_refusals.py``.
    """
    # Nothing further back can matter: a text of that length is an answer.
    if len(text) > 20 * MOST_WORDS:
        return None
    plain = _plain(text)
    count = _words(plain)
    if count > MOST_WORDS:
        return None
    opening = plain[:OPENING]
    if _any(REFUSALS).search(opening):
        return "a refusal"
    if count <= MOST_WORDS_OF_NOTHING and _any(NON_ANSWERS).search(opening):
        return "a non-answer"
    return None


def _plain(text: str) -> str:
    """Without quotations, code and decoration; small letters, one kind of apostrophe and space."""
    said = _QUOTED.sub(" ", unicodedata.normalize("NFKC", text)).replace("’", "'").replace("‘", "'")
    return _DECORATION.sub("", _SPACE.sub(" ", said).lower())


def _words(plain: str) -> int:
    characters = len(_UNSPACED.findall(plain))
    return len(_UNSPACED.sub("", plain).split()) + characters // 3


@cache
def _any(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # Each begins at the start of a sentence. Alternatives of plain words: nothing here can run for longer than linear.
    return re.compile(rf"(?:^|[.!?:;。！？,，、] ?|[-–—*] )(?:{'|'.join(patterns)})")

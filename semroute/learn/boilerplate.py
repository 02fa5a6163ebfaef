"""Boilerplate around examples: what many of them have at one end, such as ticket numbers, signatures and bullets.

It says nothing of what is asked, but it moves vectors: examples that share it are near each other and far from queries
without it, so that thresholds would lie where no plain query comes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

SHARE = 0.2
WORDS_SHARE = 0.5
FEWEST = 4
"""Share of the examples, and their number at the least, that have in common what is taken for boilerplate. More must
have it where no punctuation parts it from the rest, as after "how do I"."""

LONGEST = 20
"""Tokens of the longest boilerplate."""

SEEN = 160
"""Characters at each end that are looked at."""

MOST_NAMES = 3
"""Words in a row that may be different in each example, such as a name."""

FEWEST_LEFT = 2
"""Words that must be left."""

_TOKENS = re.compile(r"\w+(?:['\u2019]\w+)*|\n|[^\w\s]")
_WEAK = frozenset(".,;?!'\"\u2019\u201c\u201d-\u2026")
"""Punctuation of any sentence, which alone shows no boilerplate."""

_BRACKETS = frozenset(("Ps", "Pe", "Pi", "Pf", "Sm", "So", "Po"))
"""Unicode's categories of what may touch the text: brackets, quotation marks, "<", emoji, bullets."""

_NAME, _NUMBER = "\0name", "\0number"


@dataclass(frozen=True, slots=True)
class Bare:
    """Examples without their boilerplate.

    Attributes:
        texts: ``n`` texts without what is boilerplate in their category.
        rows: of the examples whose boilerplate means nothing: it has no words of its own, or is in most categories.
    """

    texts: list[str]
    rows: NDArray[np.int64]


def without_boilerplate(texts: Sequence[str], labels: NDArray[np.int64]) -> Bare:
    """Return examples without what many of their category begin or end with.

    Args:
        texts: the examples.
        labels: ``(n,)`` category numbers from 0.
    """
    bare, own = list(texts), np.ones(len(texts), np.bool_)
    categories = [np.flatnonzero(labels == category).tolist() for category in np.unique(labels).tolist()]
    for at_end in (False, True):
        found = [_stripped([bare[row] for row in rows], rows, at_end) for rows in categories]
        owners = Counter(shape for some in found for shape in {shape for _, shape, _ in some})
        for row, shape, rest in chain.from_iterable(found):
            is_usual = owners[shape] > 1 and 2 * owners[shape] >= len(categories)
            if is_usual or _is_parted(shape):
                bare[row] = rest
                # Words that only one category has around its examples tell it from the others.
                own[row] &= is_usual or not _has_words(shape)
    changed = np.array([one != other for one, other in zip(texts, bare, strict=True)], np.bool_)
    return Bare(bare, np.flatnonzero(changed & own))


def _stripped(texts: Sequence[str], rows: Sequence[int], at_end: bool) -> list[tuple[int, tuple[str, ...], str]]:
    """Return row, boilerplate's shape and the rest, of the texts that have one at this end."""
    tokens = [_tokens(text, at_end) for text in texts]
    counts = Counter(word for some in tokens for word in {text.casefold() for text, _, _ in some})
    least = max(FEWEST, SHARE * len(texts))
    shapes = [[_shape(text, counts, least) for text, _, _ in some[: LONGEST + 1]] for some in tokens]
    longest: dict[int, int] = {}
    groups = [list(range(len(texts)))]
    for length in range(1, LONGEST + 1):
        parts: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for group in groups:
            for number in group:
                if len(shapes[number]) > length:
                    parts[tuple(shapes[number][:length])].append(number)
        groups = [group for group in parts.values() if len(group) >= least]
        for shape, group in parts.items():
            if len(group) >= least and _is_boilerplate(shape, len(group) / len(texts)):
                longest.update(dict.fromkeys(group, length))
    found = []
    for number, length in longest.items():
        inner, start, end = tokens[number][length - 1]
        rest = texts[number][:start] if at_end else texts[number][end:]
        beside = rest[-1:] if at_end else rest[:1]
        apart = inner == "\n" or beside.isspace() or unicodedata.category(inner[0]) in _BRACKETS
        if apart and len(re.findall(r"\w+", rest)) >= FEWEST_LEFT:
            found.append((rows[number], tuple(shapes[number][:length]), rest.strip()))
    return found


def _tokens(text: str, at_end: bool) -> list[tuple[str, int, int]]:
    """Return the tokens from one end inwards, with their places; blank lines at the ends are none."""
    shift = max(0, len(text.rstrip()) - SEEN) if at_end else 0
    seen = text[shift:].rstrip() if at_end else text[:SEEN]
    found = [(token[0], token.start() + shift, token.end() + shift) for token in _TOKENS.finditer(seen)]
    return found[::-1] if at_end else found


def _shape(token: str, counts: Counter[str], least: float) -> str:
    if any(character.isdigit() for character in token):
        return _NUMBER
    folded = token.casefold()
    return folded if counts[folded] >= least or not token[0].isalpha() else _NAME


def _is_boilerplate(shape: tuple[str, ...], share: float) -> bool:
    inner, names = shape[-1], shape.count(_NAME)
    words = [token for token in shape if token[0].isalpha()]
    strong = [token for token in shape if not token[0].isalpha() and token not in _WEAK and token != _NAME]
    if inner == _NAME or names > MOST_NAMES:
        return False
    if inner[0].isalpha():
        return not names and share >= WORDS_SHARE and len(words) > 1
    if names and not words and strong == [_NUMBER] * len(strong):
        return False
    return bool(words or strong)


def _has_words(shape: tuple[str, ...]) -> bool:
    return any(token[0].isalpha() for token in shape)


def _is_parted(shape: Sequence[str]) -> bool:
    """Tell whether punctuation that no plain sentence has parts it from the rest."""
    marks = [token for token in shape if not token[0].isalpha() and token not in (_NUMBER, _NAME)]
    return shape[-1] in marks and not _WEAK.issuperset(marks)

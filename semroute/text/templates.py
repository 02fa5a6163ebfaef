"""Templates: text that many queries share, such as a preamble.

Others are the examples of a few-shot prompt, and a closing instruction.

Two queries of one template look alike to an encoder, since most of their text is the same. What each says itself is
between the beginning and the end that it shares with others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

MIN_SHARED = 80
"""Characters of beginning and end together that a template has at least."""
MIN_SHARE = 0.5
"""Share of the text that they make up at least."""
MIN_ROWS = 8
"""Queries that a beginning or an end is shared by; fewer may be spellings of one question."""


def own_parts(texts: Sequence[str]) -> list[str | None]:
    """Return the part of each text that is not shared with others.

    The order of the texts does not matter. Beginnings are found between neighbours in sorted order, in ``O(n log n)``
    comparisons.

    Returns:
        One part for each text, cut at words; None where it follows no template, or is nothing else.
    """
    begins = _shared_lengths(texts)
    ends = _shared_lengths([text[::-1] for text in texts])
    return [_own(text, begin, end) for text, begin, end in zip(texts, begins, ends, strict=True)]


def _own(text: str, begin: int, end: int) -> str | None:
    begin = _word_start(text, begin)
    end = _word_start(text[::-1], end)
    if begin + end < max(MIN_SHARED, MIN_SHARE * len(text)) or begin + end >= len(text):
        return None
    return text[begin : len(text) - end].strip() or None


def _word_start(text: str, length: int) -> int:
    """Return the length without a word that is cut."""
    if length >= len(text) or not length:
        return length
    while length and not text[length - 1].isspace():
        length -= 1
    return length


def _shared_lengths(texts: Sequence[str]) -> list[int]:
    """Return the length of each text's shared beginning.

    At least ``MIN_ROWS - 1`` different others share it.
    """
    ordered = sorted(set(texts))
    # By characters, as this function compares, and not by components of paths.
    between = [len(os.path.commonprefix(pair)) for pair in pairwise(ordered)]  # noqa: RUF071
    longest = dict.fromkeys(ordered, 0)
    for start in range(len(ordered) - MIN_ROWS + 1):
        shared = min(between[start : start + MIN_ROWS - 1])
        for text in ordered[start : start + MIN_ROWS]:
            longest[text] = max(longest[text], shared)
    return [longest[text] for text in texts]

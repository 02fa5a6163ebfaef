"""The options of a multiple choice: ``A. one``, ``(b) two``, ``3) three``, each on a line of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPTION = re.compile(r"^[ \t]{0,8}[(\[]?([A-Ja-j]|[1-9])[.):\]][ \t]+(\S[^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A text that may be a multiple choice.

    Attributes:
        stem: what stands before the first option; the whole text where there are no options.
        options: their texts, in order.
    """

    stem: str
    options: tuple[str, ...]


def choice(text: str) -> MultipleChoice:
    """Find the options: at least two lines that are marked in turn, from A, a or 1 on.

    A list of points that does not begin with the first mark is none; of several lists the last counts, since examples
    stand before the question.
    """
    runs: list[list[re.Match[str]]] = []
    for found in _OPTION.finditer(text):
        mark = found[1]
        if mark in "Aa1":
            runs.append([found])
        elif runs and ord(mark) == ord(runs[-1][-1][1]) + 1:
            runs[-1].append(found)
    for run in reversed(runs):
        if len(run) >= 2:
            return MultipleChoice(text[: run[0].start()].strip(), tuple(one[2].strip() for one in run))
    return MultipleChoice(text.strip(), ())

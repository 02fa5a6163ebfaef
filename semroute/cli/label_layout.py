"""Texts that share the lines of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

CUT = "[…]"
"""Where something was left out."""


def shares(needs: Sequence[int], room: int) -> list[int]:
    """Lines for each of several texts: the short ones are whole, and the others share what is left alike.

    Args:
        needs: lines of each, at least 1.
        room: lines that there are; where they are fewer than the texts, each has 1 all the same.
    """
    given, left = [0] * len(needs), room
    for rank, place in enumerate(sorted(range(len(needs)), key=needs.__getitem__)):
        given[place] = min(needs[place], max(1, left // (len(needs) - rank)))
        left -= given[place]
    return given


def wrapped(text: str, console: Console, width: int) -> list[Text]:
    """The lines of a text; the middle of one that is larger than the terminal is left out."""
    # Wrapping takes long for what cannot be seen.
    half = console.width * console.height // 2
    seen = text if len(text) <= 2 * half else f"{text[:half]}\n{CUT}\n{text[-half:]}"
    return list(Text(seen).wrap(console, width)) or [Text()]


def fitted(lines: Sequence[Text], most: int, width: int) -> Text:
    """The first and the last lines of a text, as many as there is room for: what an answer ends in tells most."""
    if len(lines) <= most:
        return Text("\n").join(lines)
    if most == 1:
        first = lines[0].copy()
        first.truncate(max(0, width - len(CUT) - 1))
        return Text(" ").join([first, Text(CUT)])
    head, tail = most // 2, most - 1 - most // 2
    return Text("\n").join([*lines[:head], Text(CUT), *lines[len(lines) - tail :]])

"""One query and its answers, to be judged by keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from semroute.cli.console import visible
from semroute.cli.label_layout import fitted, shares, wrapped

MARKS = {None: "?", 0.0: "bad", 0.5: "half", 1.0: "good"}
_STYLES = {None: "dim", 0.0: "red", 0.5: "yellow", 1.0: "green"}
_NEXT = {None: 1.0, 1.0: 0.0, 0.0: 0.5, 0.5: 1.0}
LEAST_WIDTH = 36
"""Columns below which answers do not stand side by side."""
MOST_ANSWERS = 9

_FRAME = 4  # columns that a frame and the space in it take
_KEYS = "1-9 good/bad/half  a all good  n none  Enter save  v view  s skip  u undo  q end"


class Action(Enum):
    """What a key asks for, beyond a change of marks."""

    SAVE = "save"
    VIEW = "view"
    SKIP = "skip"
    UNDO = "undo"
    QUIT = "quit"


_ACTIONS = {"s": Action.SKIP, "u": Action.UNDO, "q": Action.QUIT, "v": Action.VIEW}


@dataclass(frozen=True, slots=True)
class Judging:
    """A query that is being judged.

    Attributes:
        query: its text.
        answers: in the order in which they are shown, without the names of their models.
        marks: of each answer; None where it has none yet.
        said: what is amiss with the last key; the empty string where nothing is.
    """

    query: str
    answers: tuple[str, ...]
    marks: tuple[float | None, ...]
    said: str = ""

    @classmethod
    def of(cls, query: str, answers: Sequence[str]) -> Judging:
        """Nothing is marked yet."""
        return cls(query, tuple(answers), (None,) * len(answers))

    def press(self, key: str) -> tuple[Judging, Action | None]:
        """What a key does: a digit changes the mark of an answer (good, bad, half), ``a`` and ``n`` mark all or none
        as good, Enter saves when every answer has a mark, ``v`` shows all texts whole, ``s`` skips, ``u`` takes the
        last one back, ``q`` ends."""
        if key in ("\r", "\n"):
            return self._saved()
        if key in _ACTIONS:
            return replace(self, said=""), _ACTIONS[key]
        if key in ("a", "n"):
            return replace(self, marks=(1.0 if key == "a" else 0.0,) * len(self.marks), said=""), None
        if key.isdecimal() and key.isascii() and 1 <= int(key) <= len(self.marks):
            place = int(key) - 1
            marks = (*self.marks[:place], _NEXT[self.marks[place]], *self.marks[place + 1 :])
            return replace(self, marks=marks, said=""), None
        return self, None

    def _saved(self) -> tuple[Judging, Action | None]:
        unmarked = [str(place) for place, mark in enumerate(self.marks, 1) if mark is None]
        if unmarked:
            said = f"not saved: {', '.join(unmarked)} {'has' if len(unmarked) == 1 else 'have'} no mark yet"
            return replace(self, said=said), None
        return self, Action.SAVE

    def whole(self) -> str:
        """Query and answers as plain text, with nothing left out."""
        parts = [("query", self.query), *((f"answer {place}", text) for place, text in enumerate(self.answers, 1))]
        return visible("\n\n".join(f"--- {name} ---\n{text}" for name, text in parts)) + "\n"


def shown(judging: Judging, console: Console, *, done: int, wanted: int, reason: str) -> RenderableType:
    """The screen: where one is, the query, the answers side by side where there is room, what is amiss, and the keys.

    Long texts are shortened, so that all of it fits the terminal.
    """
    head = Text(f"{done + 1} of {wanted}   picked as {reason}", style="dim")
    count = len(judging.answers)
    abreast = min(count, max(1, console.width // LEAST_WIDTH))
    width = console.width // abreast
    query = wrapped(visible(judging.query), console, console.width - _FRAME)
    answers = [wrapped(visible(answer), console, width - _FRAME) for answer in judging.answers]
    bands = [range(start, min(start + abreast, count)) for start in range(0, count, abreast)]
    foot = (
        [Text(judging.said, style="yellow"), Text(_KEYS, style="dim")] if judging.said else [Text(_KEYS, style="dim")]
    )
    below = sum(len(line.wrap(console, console.width)) for line in foot)
    # The last line of the terminal is the cursor's; the first one is the head's; each frame takes two.
    room = console.height - 2 - 2 * (1 + len(bands)) - below
    first, *others = shares([len(query), *(max(len(answers[place]) for place in band) for band in bands)], room)
    grid = Table.grid(padding=0)
    for band, lines in zip(bands, others, strict=True):
        grid.add_row(*(_panel(judging, place, fitted(answers[place], lines, width - _FRAME), width) for place in band))
    asked = Panel(fitted(query, first, console.width - _FRAME), title="query", title_align="left")
    return Group(head, asked, grid, *foot)


def _panel(judging: Judging, place: int, text: Text, width: int) -> Panel:
    mark = judging.marks[place]
    title = Text.assemble(f"{place + 1} ", (MARKS[mark], _STYLES[mark]))
    return Panel(text, title=title, title_align="left", width=width, border_style=_STYLES[mark])

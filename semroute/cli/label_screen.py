"""One query and its answers, to be judged by keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

MARKS = {None: "?", 0.0: "bad", 0.5: "half", 1.0: "good"}
_STYLES = {None: "dim", 0.0: "red", 0.5: "yellow", 1.0: "green"}
_NEXT = {None: 1.0, 1.0: 0.0, 0.0: 0.5, 0.5: 1.0}
MOST_SHOWN = 2_000
"""Characters of an answer that are shown."""
MOST_ANSWERS = 9


class Action(Enum):
    """What a key asks for, beyond a change of marks."""

    SAVE = "save"
    SKIP = "skip"
    UNDO = "undo"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Judging:
    """A query that is being judged.

    Attributes:
        query: its text.
        answers: in the order in which they are shown, without the names of their models.
        marks: of each answer; None where it has none yet.
    """

    query: str
    answers: tuple[str, ...]
    marks: tuple[float | None, ...]

    @classmethod
    def of(cls, query: str, answers: Sequence[str]) -> Judging:
        """Nothing is marked yet."""
        return cls(query, tuple(answers), (None,) * len(answers))

    def press(self, key: str) -> tuple[Judging, Action | None]:
        """What a key does: a digit changes the mark of an answer (good, bad, half), ``a`` and ``n`` mark all or none
        as good, Enter saves when every answer has a mark, ``s`` skips, ``u`` takes the last one back, ``q`` ends."""
        if key in ("\r", "\n"):
            return self, Action.SAVE if None not in self.marks else None
        if key in "asnuq" and key:
            if key in "an":
                return replace(self, marks=(1.0 if key == "a" else 0.0,) * len(self.marks)), None
            return self, {"s": Action.SKIP, "u": Action.UNDO, "q": Action.QUIT}[key]
        if key.isdecimal() and key.isascii() and 1 <= int(key) <= len(self.marks):
            place = int(key) - 1
            marks = (*self.marks[:place], _NEXT[self.marks[place]], *self.marks[place + 1 :])
            return replace(self, marks=marks), None
        return self, None


def shown(judging: Judging, *, done: int, wanted: int, reason: str, width: int) -> RenderableType:
    """The screen: where one is, the query, the answers side by side where there is room, and the keys."""
    head = Text(f"{done + 1} of {wanted}   picked as {reason}", style="dim")
    wide = width // len(judging.answers) >= 36 if judging.answers else False
    panels = [
        _panel(judging, place, width // len(judging.answers) - 1 if wide else width) for place in _places(judging)
    ]
    answers: RenderableType = Columns(panels, equal=True, expand=True) if wide else Group(*panels)
    keys = Text("1-9 good/bad/half   a all good   n none   Enter save   s skip   u undo   q quit", style="dim")
    return Group(head, Panel(Text(_cut(judging.query)), title="query", title_align="left"), answers, keys)


def _places(judging: Judging) -> range:
    return range(len(judging.answers))


def _panel(judging: Judging, place: int, width: int) -> Panel:
    mark = judging.marks[place]
    title = Text.assemble(f"{place + 1} ", (MARKS[mark], _STYLES[mark]))
    return Panel(
        Text(_cut(judging.answers[place])), title=title, title_align="left", width=width, border_style=_STYLES[mark]
    )


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]}\n[…]\n{text[-MOST_SHOWN // 2 :]}"

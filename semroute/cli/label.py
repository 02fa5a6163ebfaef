"""``semroute label``: judge answers, by hand or by a model, and say how far the two agree."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from semroute.cli.console import NumberRange, config_option, index_option, json_option, seed_option, visible
from semroute.errors import InputError

if TYPE_CHECKING:
    from semroute.cli.label_rows import LabelingSession


_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("outcomes", nargs=-1, required=True, type=_FILE)
@click.option("--out", type=_FILE, metavar="FILE.jsonl", required=True, help="Judged outcomes; what is there goes on.")
@click.option("--judge", metavar="MODEL", help="Let this model of semroute.yaml judge.")
@click.option("--golden", type=_FILE, metavar="FILE", help="With --judge: what a person judged, to compare with.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Judge so many queries and stop.")
@click.option("--max-usd", type=NumberRange(0, min_open=True), metavar="USD", help="With --judge: the budget.")
@click.option("--classifier", type=_FILE, metavar="DIR", help="Prefer queries of which this classifier is not sure.")
@seed_option
@index_option
@config_option
@json_option
def label(
    outcomes: tuple[Path, ...],
    out: Path,
    judge: str | None,
    golden: Path | None,
    limit: int | None,
    max_usd: float | None,
    classifier: Path | None,
    seed: int,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Judge answers: a golden set by hand, or everything by a model.

    OUTCOMES are files with responses, such as "semroute collect" writes. By hand: queries come in the order in which
    they are worth your time (answers disagree, the query is rare, a classifier is not sure), every other one at
    random. Only a random sample tells of all queries: the rows whose "draw" is at most the largest of a row that was
    "picked" at random, the hard ones among them included. Where the outcomes have grown, only rows with the last
    "drawn_from" tell how far that is. Answers stand in random order without their models' names; keys mark them. With
    --judge a model grades every answer, and --golden says how far it agrees with you, on the random sample and on all.
    Both go on where they stopped, answer by answer: what a model has answered since, and what was not graded, is still
    to be judged.
    """
    from semroute.cli.label_rows import read_sheet
    from semroute.outcomes.files import only_appender

    if judge is None and (golden is not None or max_usd is not None):
        raise click.UsageError("--golden and --max-usd go with --judge")
    with only_appender(out):
        sheet = read_sheet(outcomes, out, most=MOST_ANSWERS if judge is None else None)
        if judge is not None:
            _by_model(sheet, judge, golden, limit, max_usd, config_path, as_json=as_json)
        else:
            _by_hand(sheet, limit, classifier, index, config_path, seed, as_json=as_json)


def _by_hand(
    sheet: LabelingSession,
    limit: int | None,
    classifier: Path | None,
    index: Path | None,
    config_path: Path | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Let a person judge, and say what came of it."""
    from semroute.cli.console import print_json, print_note, print_warning

    judged, out = judge_by_hand(sheet, limit, classifier, index, config_path, seed), sheet.out
    sampled = sheet.sampled()
    if as_json:
        print_json({"path": str(out), "judged": judged, "random_sample": sampled})
        return
    if not out.exists():
        print_note(f"no query was judged, and {out} was not begun")
        return
    among = "" if sampled is None else f"; {sampled:,} of all there are a random sample"
    print_note(f"{judged:,} queries judged, in {out}{among}")
    if sampled is None:
        print_warning(f'{out} holds no random sample: a row tells no "draw"; begin a new file to have one')


def _by_model(
    sheet: LabelingSession,
    judge: str,
    golden: Path | None,
    limit: int | None,
    max_usd: float | None,
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Let a model judge, and say what came of it.

    Raises:
        InputError: nothing was judged, though there was something to judge; or a file cannot be used.
    """
    from semroute.cli.console import print_json, print_note, print_warning, stdout
    from semroute.cli.label_rows import agreement_dict, agreement_shown, check_golden, judge_all
    from semroute.errors import InputError

    if golden is not None:
        check_golden(golden, sheet)
    told = judge_all(sheet, judge, limit, max_usd, config_path)
    compared = None if golden is None or not sheet.out.exists() else agreement_dict(sheet.out, golden)
    if as_json:
        print_json({"path": str(sheet.out), **told.plain(), "agreement": compared})
    else:
        where = f", in {sheet.out}" if sheet.out.exists() else ""
        print_note(f"{judge} judged {told.judged:,} answers for USD {told.spent:.4f}{where}")
        if compared is not None:
            stdout().print(agreement_shown(compared))
    problems = told.problems()
    if told.has_failed:
        raise InputError(f"nothing was judged: {'; '.join(problems)}")
    for problem in problems:
        print_warning(problem)
    if golden is not None and compared is None:
        print_warning(f"{judge} judged none of the answers in {golden} yet, so that there is nothing to compare")


# Judging by hand: one query after the other, at a terminal.


def judge_by_hand(
    sheet: LabelingSession,
    limit: int | None,
    classifier: Path | None,
    index: Path | None,
    config_path: Path | None,
    seed: int,
) -> int:
    """Show one query after the other; how many were judged.

    Raises:
        InputError: there is no terminal, or the sheet cannot be put in order.
    """
    from random import Random

    _check_terminal()
    picks = sheet.picks(classifier, index, config_path, seed)
    wanted = len(picks) if limit is None else min(limit, len(picks))
    done: list[int] = []
    place = 0
    while place < len(picks) and len(done) < wanted:
        pick, random = picks[place], Random(f"{seed} {picks[place].row}")
        order = random.sample(sheet.models_of(pick.row), sheet.room(pick.row))
        judging = Judging.of(sheet.query(pick.row), [sheet.answer(pick.row, model) for model in order])
        judging, action = _asked(judging, len(done), wanted, pick.reason)
        if action is Action.QUIT:
            break
        if action is Action.UNDO:
            if done:
                sheet.undo()
                place = done.pop()
            continue
        if action is Action.SAVE:
            marks = dict(zip(order, _marks(judging.marks), strict=True))
            sheet.append(pick.row, marks, judged_by="human", pick=pick)
            done.append(place)
        place += 1
    return len(done)


def _asked(judging: Judging, done: int, wanted: int, reason: str) -> tuple[Judging, Action]:
    """Show a query until a key ends it; the marks by then, and the key's action."""
    from semroute.cli.console import stdout

    while True:
        console = stdout()  # anew, since a terminal may change its size
        console.clear()
        console.print(shown(judging, console, done=done, wanted=wanted, reason=reason))
        judging, action = judging.press(_key())
        if action is Action.VIEW:
            click.echo_via_pager(judging.whole())
        elif action is not None:
            return judging, action


def _check_terminal() -> None:
    """Say that there is no terminal before anything is read or drawn.

    Raises:
        InputError: there is none to press keys at.
    """
    try:
        number = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return  # no real standard input: keys come from elsewhere, or reading them says that there are none
    if sys.platform == "win32" or os.isatty(number):
        return
    try:  # where click looks for keys then
        Path("/dev/tty").open("rb").close()
    except OSError as error:
        raise _no_terminal() from error


def _key() -> str:
    """The next key.

    Raises:
        InputError: there is no terminal to press keys at.
    """
    try:
        return click.getchar()
    except OSError as error:
        raise _no_terminal() from error


def _no_terminal() -> InputError:
    return InputError("judging by hand needs a terminal; --judge MODEL does not")


def _marks(marks: Sequence[float | None]) -> list[float]:
    return [0.0 if mark is None else mark for mark in marks]


# Texts that share the lines of a terminal.

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


# One query and its answers, to be judged by keys.

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

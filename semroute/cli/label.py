"""``semroute label``: human and LLM-judge labels, and their agreement."""

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
    from semroute.cli.tables import DataTable
    from semroute.evaluate.metrics import Rate
    from semroute.learn.labelling import Agreement
    from semroute.workflows.judging import JudgeAgreement
    from semroute.workflows.labeling import LabelingSession
    from semroute.workflows.workspace import Workspace


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
    from semroute.workflows.labeling import labeling_session
    from semroute.workflows.workspace import Workspace

    if judge is None and (golden is not None or max_usd is not None):
        raise click.UsageError("--golden and --max-usd go with --judge")
    workspace = Workspace(index, config_path)
    with labeling_session(outcomes, out, MOST_ANSWERS if judge is None else None) as session:
        if judge is not None:
            _by_model(session, judge, golden, limit, max_usd, workspace, as_json=as_json)
        else:
            _by_hand(session, limit, classifier, workspace, seed, as_json=as_json)


def _by_hand(
    session: LabelingSession,
    limit: int | None,
    classifier: Path | None,
    workspace: Workspace,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Let a person label answers, and print the result."""
    from semroute.cli.console import print_json, print_note, print_warning

    made = session.result(judge_by_hand(session, limit, classifier, workspace, seed))
    if as_json:
        print_json(made.to_dict())
        return
    if not made.path.exists():
        print_note(f"no query was judged, and {made.path} was not begun")
        return
    among = "" if made.random_sample is None else f"; {made.random_sample:,} of all there are a random sample"
    print_note(f"{made.judged:,} queries judged, in {made.path}{among}")
    if made.random_sample is None:
        print_warning(f'{made.path} holds no random sample: a row tells no "draw"; begin a new file to have one')


def _by_model(
    session: LabelingSession,
    judge: str,
    golden: Path | None,
    limit: int | None,
    max_usd: float | None,
    workspace: Workspace,
    *,
    as_json: bool,
) -> None:
    """Let a model judge answers, and print the result.

    Raises:
        InputError: nothing was judged, though there were answers to judge; or a file cannot be used.
    """
    from semroute.cli.console import print_json, print_note, print_warning, shown_work, stdout
    from semroute.workflows.judging import judge_answers

    with shown_work() as (progress, warn):
        made = judge_answers(
            session, judge, workspace.config, golden=golden, limit=limit, max_usd=max_usd, progress=progress, warn=warn
        )
    run = made.run
    if as_json:
        print_json(made.to_dict())
    else:
        where = f", in {made.path}" if made.path.exists() else ""
        print_note(f"{judge} judged {run.judged:,} answers for USD {run.spent:.4f}{where}")
        if made.agreement is not None:
            stdout().print(agreement_shown(made.agreement))
    problems = run.problems()
    if run.has_failed:
        raise InputError(f"nothing was judged: {'; '.join(problems)}")
    for problem in problems:
        print_warning(problem)
    if golden is not None and made.agreement is None:
        print_warning(f"{judge} judged none of the answers in {golden} yet, so that there is nothing to compare")


def agreement_shown(found: JudgeAgreement) -> Group:
    """Return the agreement for people, of the random sample first."""
    sample = found.random_sample
    first = (
        (Text("no random sample in the golden file: the agreement may be another on all queries", style="yellow"),)
        if sample is None
        else (Text("on the random sample, which tells of all queries", style="bold"), _agreement_table(sample))
    )
    both = Text("on all that both judged, the hard ones among them", style="bold")
    return Group(*first, both, _agreement_table(found.all))


def _agreement_table(of: Agreement) -> DataTable:
    from semroute.cli.tables import figures, number

    def share(rate: Rate) -> str:
        return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%}) of {rate.n:,}" if rate.n else "none to tell by"

    return figures(
        same_as_the_person=share(of.same),
        kappa=number(of.kappa, 2),
        bad_ones_called_good=share(of.too_kind),
        good_ones_called_bad=share(of.too_strict),
    )


# Labelling by hand: one query after the other, at a terminal.


def judge_by_hand(
    session: LabelingSession, limit: int | None, classifier: Path | None, workspace: Workspace, seed: int
) -> int:
    """Show one query after the other, and return the number labelled.

    Raises:
        InputError: there is no terminal, or the rows cannot be ordered.
    """
    from random import Random

    from semroute.cli.console import progress_bars

    _check_terminal()
    with progress_bars() as progress:
        picks = session.picks(workspace, classifier=classifier, seed=seed, progress=progress)
    wanted = len(picks) if limit is None else min(limit, len(picks))
    done: list[int] = []
    place = 0
    while place < len(picks) and len(done) < wanted:
        pick, random = picks[place], Random(f"{seed} {picks[place].row}")
        order = random.sample(session.models_of(pick.row), session.room(pick.row))
        judging = Judging.of(session.query(pick.row), [session.answer(pick.row, model) for model in order])
        judging, action = _asked(judging, len(done), wanted, pick.reason)
        if action is Action.QUIT:
            break
        if action is Action.UNDO:
            if done:
                session.undo()
                place = done.pop()
            continue
        if action is Action.SAVE:
            marks = dict(zip(order, _marks(judging.marks), strict=True))
            session.append(pick.row, marks, judged_by="human", pick=pick)
            done.append(place)
        place += 1
    return len(done)


def _asked(judging: Judging, done: int, wanted: int, reason: str) -> tuple[Judging, Action]:
    """Show a query until a key ends it; return its marks and the action."""
    from semroute.cli.console import stdout

    while True:
        console = stdout()  # measured again, since a terminal may change its size
        console.clear()
        console.print(shown(judging, console, done=done, wanted=wanted, reason=reason))
        judging, action = judging.press(_key())
        if action is Action.VIEW:
            click.echo_via_pager(judging.whole())
        elif action is not None:
            return judging, action


def _check_terminal() -> None:
    """Reject a missing terminal before anything is read or drawn.

    Raises:
        InputError: there is none to press keys at.
    """
    try:
        number = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return  # no real standard input: keys come from elsewhere, or reading them fails with an error
    if sys.platform == "win32" or os.isatty(number):
        return
    try:  # where click reads keys in that case
        Path("/dev/tty").open("rb").close()
    except OSError as error:
        raise _no_terminal() from error


def _key() -> str:
    """Return the next key.

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
"""Mark of omitted text."""


def shares(needs: Sequence[int], room: int) -> list[int]:
    """Return the lines for each text: short ones whole, the rest split evenly.

    Args:
        needs: lines of each, at least 1.
        room: lines available; with fewer than the texts, each still gets 1.
    """
    given, left = [0] * len(needs), room
    for rank, place in enumerate(sorted(range(len(needs)), key=needs.__getitem__)):
        given[place] = min(needs[place], max(1, left // (len(needs) - rank)))
        left -= given[place]
    return given


def wrapped(text: str, console: Console, width: int) -> list[Text]:
    """Wrap a text; the middle of one larger than the terminal is left out."""
    # Wrapping text beyond the screen would be slow and unseen.
    half = console.width * console.height // 2
    seen = text if len(text) <= 2 * half else f"{text[:half]}\n{CUT}\n{text[-half:]}"
    return list(Text(seen).wrap(console, width)) or [Text()]


def fitted(lines: Sequence[Text], most: int, width: int) -> Text:
    """Return the first and last lines of a text that fit.

    The last lines stay because the end of an answer is the most informative.
    """
    if len(lines) <= most:
        return Text("\n").join(lines)
    if most == 1:
        first = lines[0].copy()
        first.truncate(max(0, width - len(CUT) - 1))
        return Text(" ").join([first, Text(CUT)])
    head, tail = most // 2, most - 1 - most // 2
    return Text("\n").join([*lines[:head], Text(CUT), *lines[len(lines) - tail :]])


# One query and its answers, labelled by keys.

MARKS = {None: "?", 0.0: "bad", 0.5: "half", 1.0: "good"}
_STYLES = {None: "dim", 0.0: "red", 0.5: "yellow", 1.0: "green"}
_NEXT = {None: 1.0, 1.0: 0.0, 0.0: 0.5, 0.5: 1.0}
LEAST_WIDTH = 36
"""Columns below which answers are stacked, not side by side."""
MOST_ANSWERS = 9

_FRAME = 4  # columns of a frame and its padding
_KEYS = "1-9 good/bad/half  a all good  n none  Enter save  v view  s skip  u undo  q end"


class Action(Enum):
    """Action of a key that is not a change of marks."""

    SAVE = "save"
    VIEW = "view"
    SKIP = "skip"
    UNDO = "undo"
    QUIT = "quit"


_ACTIONS = {"s": Action.SKIP, "u": Action.UNDO, "q": Action.QUIT, "v": Action.VIEW}


@dataclass(frozen=True, slots=True)
class Judging:
    """Query that is being labelled.

    Attributes:
        query: its text.
        answers: in the order in which they are shown, without the names of their models.
        marks: of each answer; None where it has none yet.
        said: error of the last key; empty if there is none.
    """

    query: str
    answers: tuple[str, ...]
    marks: tuple[float | None, ...]
    said: str = ""

    @classmethod
    def of(cls, query: str, answers: Sequence[str]) -> Judging:
        """Return a query without any marks."""
        return cls(query, tuple(answers), (None,) * len(answers))

    def press(self, key: str) -> tuple[Judging, Action | None]:
        """Apply a key, and return the new state and the action.

        A digit changes the mark of an answer (good, bad, half), ``a`` and ``n`` mark all or none as good, Enter saves
        when every answer has a mark, ``v`` shows all texts whole, ``s`` skips, ``u`` undoes the last one, ``q`` ends.
        """
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
        """Return query and answers as plain text, in full."""
        parts = [("query", self.query), *((f"answer {place}", text) for place, text in enumerate(self.answers, 1))]
        return visible("\n\n".join(f"--- {name} ---\n{text}" for name, text in parts)) + "\n"


def shown(judging: Judging, console: Console, *, done: int, wanted: int, reason: str) -> RenderableType:
    """Return the screen: progress, query, answers, error and keys.

    Answers stand side by side where there is room. Long texts are shortened, so that all of it fits the terminal.
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
    # The last line of the terminal is the cursor's, the first one is the header's; each frame takes two.
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

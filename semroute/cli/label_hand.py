"""Judging by hand: one query after the other, at a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.errors import InputError

if TYPE_CHECKING:
    from semroute.cli.label_rows import LabelingSession
    from semroute.cli.label_screen import Action, Judging


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

    from semroute.cli.label_screen import Action, Judging

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
    from semroute.cli.label_screen import Action, shown

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

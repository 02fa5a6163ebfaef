"""Verdicts on checks, and their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.report import head, row

YES, NO, NOT_RUN, MEANINGLESS = "yes", "no", "not run", "-"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a check.

    Attributes:
        word: one of ``yes``, ``no``, ``not run`` and ``-``.
        why: reason of a ``no`` or ``not run``.
    """

    word: str
    why: str = ""

    def __str__(self) -> str:
        shown = " ".join(self.why.replace("|", "/").split())[:160]
        return f"{self.word}: {shown}" if shown else self.word


class NotRunError(Exception):
    """A check that cannot run here; the message is the reason."""


def verdict(check: Callable[[], None]) -> Verdict:
    """Run a check: any error is a ``no``, except :class:`NotRunError`."""
    try:
        check()
    except NotRunError as error:
        return Verdict(NOT_RUN, str(error))
    except Exception as error:
        return Verdict(NO, str(error) or type(error).__name__)
    return Verdict(YES)


def table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Verdict]]]) -> Iterator[str]:
    """Yield a table of verdicts, and how many hold of those that ran."""
    yield from head(*columns)
    for name, verdicts in rows:
        yield row(name, *verdicts)
    words = [one.word for _, verdicts in rows for one in verdicts]
    yield ""
    yield f"{words.count(YES)} of {words.count(YES) + words.count(NO)} hold."

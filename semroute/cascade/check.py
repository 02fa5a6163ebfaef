"""What a check is shown of an answer, and what it has to say."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Protocol, TypeAlias

from semroute.errors import SemrouteError
from semroute.types import CheckResult, Completion, Request

log = logging.getLogger("semroute")

Sampler: TypeAlias = Callable[[float], Awaitable[Completion | str]]
"""Draws one more answer of the same tier at a temperature, and accounts for it; the reason where there is none."""


@dataclass(frozen=True, slots=True)
class CheckInput:
    """An answer, and what it answers.

    Attributes:
        text: the routed text of the query.
        request: all that was asked.
        completion: the answer.
        sample: draws another one; None where none is to be drawn, since no tier could follow a rejection.
    """

    text: str
    request: Request
    completion: Completion
    sample: Sampler | None


class UncheckableError(Exception):
    """A check cannot be made; the message is shown. Never leaves the cascade: the other checks judge the answer."""


class Check(Protocol):
    """Judges answers. Safe to share between requests.

    Attributes:
        name: of the check, in verdicts.
        wants_logprobs: whether the tier should be asked for log probabilities.
    """

    name: str
    wants_logprobs: bool

    async def judge(self, answered: CheckInput) -> CheckResult:
        """The verdict; a check that cannot tell says so in its reason, and raises for nothing that a model does.

        Raises:
            UncheckableError: it cannot be made.
        """
        ...


def unforeseen(error: BaseException) -> str:
    """Log a check's error that nobody expected, and describe it; foreign words may repeat an answer or a key."""
    if isinstance(error, SemrouteError):
        words = str(error)
    else:
        frames = extract_tb(error.__traceback__)
        where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
        words = f"{type(error).__name__}{where}"
    log.warning("a check of an answer failed, and the others judge without it: %s", words)
    return words

"""What a check is shown of an answer, and what it has to say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from semroute.types import Checked, Completion, Request

Sampler: TypeAlias = Callable[[float], Awaitable[Completion | None]]
"""Draws one more answer of the same tier at a temperature, and accounts for it; None where there is none to be had."""


@dataclass(frozen=True, slots=True)
class Answered:
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


class Check(Protocol):
    """Judges answers. Safe to share between requests.

    Attributes:
        wants_logprobs: whether the tier should be asked for log probabilities.
    """

    wants_logprobs: bool

    async def judge(self, answered: Answered) -> Checked:
        """The verdict; a check that cannot tell says so in its reason, and raises for nothing that a model does."""
        ...

"""A model call for those who must not know how calls are made."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from semroute.types.exchange import Completion, Delta, Request


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """What calling a candidate now would mean.

    Attributes:
        usd: what its cheapest open place is expected to charge, with the longest answer; None where no price is known.
        expected_s: median time that its fastest open place takes; None where it was not measured yet.
        closed: why no place of it can be called now; None where one can.
        wait_s: seconds until one may be called; None where none is closed or no waiting helps.
    """

    usd: float | None = None
    expected_s: float | None = None
    closed: str | None = None
    wait_s: float | None = None


class ModelClient(Protocol):
    """Calls models within the limits of one request (regions, price ceiling and the like), whoever asks.

    What decides or checks lies below dispatch and is handed one. ``candidates`` are models and groups in the order in
    which they are to be tried; every method raises a :class:`~semroute.errors.DispatchError` that carries the attempts.
    """

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> Completion:
        """The whole answer, within ``deadline_s`` seconds, of which silence leaves ``reserve_s`` to other calls.

        The attempts together may be expected to cost ``total_usd`` at most; None does not bound them.
        """
        ...

    def stream(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """The answer as it arrives, within the same; the completion comes last."""
        ...

    async def outlook(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        """What a call would mean now; makes none."""
        ...

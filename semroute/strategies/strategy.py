"""What a strategy is shown of a query, and what it has to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from semroute.strategies.semantic import SemanticMatch
from semroute.types import ModelClient, Request, StrategyResult

Vector: TypeAlias = NDArray[np.float32]
"""``(d,)`` float32 of unit length."""


@dataclass(slots=True)
class RoutingContext:
    """A query on its way through the strategies. The chain keeps it; a strategy reads it and answers with an opinion.

    Attributes:
        text: the routed text; empty where the conversation has none, and then only strategies are asked that need none.
        request: all that is asked: messages, tools, schema, the caller's metadata.
        default: where it goes if no strategy decides, as far as that is known.
        left: what the strategies before have left to choose from, models and groups; None: everything.
        category: the category that the strategies before have found; None where none did.
        verdict: what the categories' scores say; None where they were not computed.
        vector: the text's vector by the index's own encoder; None where it was not computed. It is there for a strategy
            that ``needs_vectors``.
        opinions: what the strategies before said.
        decision: the opinion that settled it.
        steps_ms: wall time so far by step, milliseconds.
    """

    text: str
    request: Request
    default: tuple[str, ...]
    left: tuple[str, ...] | None = None
    category: str | None = None
    verdict: SemanticMatch | None = None
    vector: Vector | None = None
    opinions: list[StrategyResult] = field(default_factory=list)
    decision: StrategyResult | None = None
    steps_ms: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class LocalStrategy(Protocol):
    """Decides on this machine: synchronous, many queries at once.

    Attributes:
        name: as ``strategies`` in the configuration has it.
        needs_vectors: whether every case must have its vector.

    One that can decide on a conversation without text has ``needs_text = False``.
    """

    name: str
    needs_vectors: bool

    def consult(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        """An opinion on each case, in their order; deterministic.

        The candidates of an opinion need not respect :attr:`Case.left`: the chain sees to that. A strategy that enters
        its steps in :attr:`Case.steps_ms` sets ``elapsed_ms`` of its opinions; of the others the chain takes the time.
        """
        ...


@runtime_checkable
class AskingStrategy(Protocol):
    """Decides by asking a model, one query at a time; several may be under way together.

    Attributes:
        name: as ``strategies`` in the configuration has it.
    """

    name: str

    async def ask(self, case: RoutingContext, caller: ModelClient) -> StrategyResult:
        """An opinion on the case; it never raises for what a model does, and then has passed."""
        ...


Strategy: TypeAlias = LocalStrategy | AskingStrategy

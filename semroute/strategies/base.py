"""Candidates as names of models and groups: what is left of a list when another one bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from semroute.strategies.semantic import SemanticMatch
from semroute.types import ModelClient, Request, StrategyResult


class Pool:
    """Knows what the names stand for. A group that is left in part becomes the members that are left.

    Args:
        members: the models that a name stands for: a group's, or the model itself.
        names: every model and group that a query can go to, in a fixed order.
    """

    def __init__(self, members: Callable[[str], Sequence[str]], names: Iterable[str]) -> None:
        self._members = members
        self.names = tuple(dict.fromkeys(names))

    def models(self, names: Iterable[str]) -> tuple[str, ...]:
        """The models that ``names`` stand for, each once."""
        return tuple(dict.fromkeys(model for name in names for model in self._members(name)))

    def kept(self, names: Sequence[str], allowed: Sequence[str] | None) -> tuple[str, ...]:
        """What of ``names`` is among ``allowed``, in the order of ``names``; all of it where ``allowed`` is None."""
        if allowed is None:
            return tuple(names)
        models = set(self.models(allowed))
        return self._left(names, lambda model: model in models)

    def without(self, names: Sequence[str], excluded: Sequence[str]) -> tuple[str, ...]:
        """What of ``names`` is not among ``excluded``, in the order of ``names``."""
        models = set(self.models(excluded))
        return self._left(names, lambda model: model not in models)

    def _left(self, names: Sequence[str], is_left: Callable[[str], bool]) -> tuple[str, ...]:
        found: list[str] = []
        for name in names:
            members = self._members(name)
            left = [model for model in members if is_left(model)]
            found += [name] if len(left) == len(members) else left
        return tuple(dict.fromkeys(found))


# What a strategy is shown of a query, and what it has to answer.

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

"""Interfaces of routing strategies, and the candidates that they share.

Candidates are names of models and groups; a :class:`Pool` restricts one list of them by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from semroute.strategies.semantic import SemanticMatch
from semroute.types import ModelClient, Request, StrategyResult


class Pool:
    """Names of models and groups, resolved to models.

    A group that is left in part becomes the members that are left.

    Args:
        members: resolves a name to models: a group's, or the model itself.
        names: every model and group that a query can be routed to, in a fixed order.
    """

    def __init__(self, members: Callable[[str], Sequence[str]], names: Iterable[str]) -> None:
        self._members = members
        self.names = tuple(dict.fromkeys(names))

    def models(self, names: Iterable[str]) -> tuple[str, ...]:
        """Resolve ``names`` to models, each once."""
        return tuple(dict.fromkeys(model for name in names for model in self._members(name)))

    def kept(self, names: Sequence[str], allowed: Sequence[str] | None) -> tuple[str, ...]:
        """Restrict ``names`` to ``allowed``, in their order; None allows all."""
        if allowed is None:
            return tuple(names)
        models = set(self.models(allowed))
        return self._left(names, lambda model: model in models)

    def without(self, names: Sequence[str], excluded: Sequence[str]) -> tuple[str, ...]:
        """Remove ``excluded`` from ``names``, keeping their order."""
        models = set(self.models(excluded))
        return self._left(names, lambda model: model not in models)

    def _left(self, names: Sequence[str], is_left: Callable[[str], bool]) -> tuple[str, ...]:
        found: list[str] = []
        for name in names:
            members = self._members(name)
            left = [model for model in members if is_left(model)]
            found += [name] if len(left) == len(members) else left
        return tuple(dict.fromkeys(found))


# Context of a query, and the protocols of strategies.

Vector: TypeAlias = NDArray[np.float32]
"""``(d,)`` float32 of unit length."""


@dataclass(slots=True)
class RoutingContext:
    """Context of a query on its way through the strategies.

    The chain maintains it; a strategy reads it and returns a result.

    Attributes:
        text: the routed text; empty if the conversation has none: then only strategies run that need none.
        request: the whole request: messages, tools, schema, the caller's metadata.
        default: candidates if no strategy decides, as far as they are known.
        left: models and groups that earlier strategies have left; None: everything.
        category: the category that earlier strategies have found; None if none did.
        verdict: match by the categories' scores; None if they were not computed.
        vector: the text's vector by the index's own encoder; None if it was not computed. It is there for a strategy
            that ``needs_vectors``.
        opinions: results of earlier strategies.
        decision: the result that decided.
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
    """Strategy that decides on this machine, synchronously and in batches.

    Attributes:
        name: its name in ``strategies`` of the configuration.
        needs_vectors: True if every context must have its vector.

    A strategy that can decide on a conversation without text has ``needs_text = False``.
    """

    name: str
    needs_vectors: bool

    def consult(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        """Return a result for each context, in their order; deterministic.

        The candidates of a result need not respect :attr:`RoutingContext.left`: the chain sees to that. A strategy that
        enters its steps in :attr:`RoutingContext.steps_ms` sets ``elapsed_ms`` of its results; the chain times others.
        """
        ...


@runtime_checkable
class AskingStrategy(Protocol):
    """Strategy that calls a model, one query at a time.

    Several calls may be under way together.

    Attributes:
        name: its name in ``strategies`` of the configuration.
    """

    name: str

    async def ask(self, case: RoutingContext, caller: ModelClient) -> StrategyResult:
        """Return a result; abstain if the model fails, never raise for it."""
        ...


Strategy: TypeAlias = LocalStrategy | AskingStrategy

"""Interfaces of routing strategies, and the candidates that they share.

Candidates are names of models and groups; a :class:`Pool` restricts one list of them by another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from semroute.errors import SemrouteError, unquoted
from semroute.plugins import Plugin, make, said
from semroute.strategies.semantic import SemanticMatch
from semroute.types import ModelClient, Request, StrategyResult

log = logging.getLogger("semroute")


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
        match: match by the categories' scores; None if they were not computed.
        vector: the text's vector by the index's own encoder; None if it was not computed. It is there for a strategy
            that ``needs_vectors``.
        results: results of earlier strategies.
        selected: the result that decided.
        steps_ms: wall time so far by step, milliseconds.
        requested: the category that the caller asks for; None if it is to be found.
    """

    text: str
    request: Request
    default: tuple[str, ...]
    left: tuple[str, ...] | None = None
    category: str | None = None
    match: SemanticMatch | None = None
    vector: Vector | None = None
    results: list[StrategyResult] = field(default_factory=list)
    selected: StrategyResult | None = None
    steps_ms: dict[str, float] = field(default_factory=dict)
    requested: str | None = None


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

    def decide(self, contexts: Sequence[RoutingContext]) -> list[StrategyResult]:
        """Return a result for each context, in their order; deterministic.

        The candidates of a result need not respect :attr:`RoutingContext.left`: the chain sees to that. A strategy that
        enters its steps in :attr:`RoutingContext.steps_ms` sets ``elapsed_ms`` of its results; the chain times others.
        """
        ...


@runtime_checkable
class ModelStrategy(Protocol):
    """Strategy that calls a model, one query at a time.

    Several calls may be under way together.

    Attributes:
        name: its name in ``strategies`` of the configuration.
    """

    name: str

    async def adecide(self, context: RoutingContext, client: ModelClient) -> StrategyResult:
        """Return a result; abstain if the model fails, never raise for it."""
        ...


Strategy: TypeAlias = LocalStrategy | ModelStrategy


# Strategies of plugins.


@dataclass(frozen=True, slots=True)
class StrategySetup:
    """Setup of a plugin strategy: its name, and the models of the index.

    Attributes:
        name: its name in ``strategies`` of the configuration, which its ``name`` and its results must have.
        pool: every model and group that a query can be routed to.
        models: models and groups of each category of the index, in order.
    """

    name: str
    pool: Pool
    models: Mapping[str, tuple[str, ...]]


class StrategyFactory(Protocol):
    """Factory of a strategy: class or function of a package or a program.

    A package names it by an entry point of the group ``semroute.strategies``; a program hands it in as
    ``strategies={"name": factory}``. Its attribute ``Options``, where it has one, is the pydantic model of the section
    that is named like the strategy: a validated instance is the first argument, which is None without ``Options``. The
    messages of the model's validators are shown with file, line and key.

    It is called once for every index and configuration that is loaded, and must not call a model or the network. It may
    raise a :class:`~semroute.errors.ConfigError`; any other error is reported with the package's name.
    """

    def __call__(self, options: Any, setup: StrategySetup, /) -> Strategy:
        """Return the strategy, safe to share between threads."""
        ...


class PluginStrategy:
    """Strategy of a plugin that decides on this machine.

    It abstains where the plugin fails: a query is then decided by the strategies after it.

    Args:
        plugin: named in messages.
        strategy: the plugin's own.
    """

    def __init__(self, plugin: Plugin, strategy: LocalStrategy) -> None:
        self._plugin, self._strategy = plugin, strategy
        self.name, self.needs_vectors = strategy.name, bool(strategy.needs_vectors)
        self.needs_text = bool(getattr(strategy, "needs_text", True))

    def decide(self, contexts: Sequence[RoutingContext]) -> list[StrategyResult]:
        """Return the plugin's results, or why there are none."""
        try:
            results = list(self._strategy.decide(contexts))
        except Exception as error:
            return [self._failed(said(error))] * len(contexts)
        if len(results) != len(contexts) or not all(isinstance(result, StrategyResult) for result in results):
            return [self._failed(f"{len(contexts)} results of StrategyResult were due")] * len(contexts)
        return [replace(result, strategy=self.name) for result in results]

    def _failed(self, why: str) -> StrategyResult:
        return _abstained(self._plugin, self.name, why)


class PluginModelStrategy:
    """Strategy of a plugin that calls a model; abstains where it fails.

    Args:
        plugin: named in messages.
        strategy: the plugin's own.
    """

    def __init__(self, plugin: Plugin, strategy: ModelStrategy) -> None:
        self._plugin, self._strategy = plugin, strategy
        self.name = strategy.name
        self.needs_text = bool(getattr(strategy, "needs_text", True))

    async def adecide(self, context: RoutingContext, client: ModelClient) -> StrategyResult:
        """Return the plugin's result, or why there is none."""
        try:
            result = await self._strategy.adecide(context, client)
        except Exception as error:
            logged = unquoted(error) if isinstance(error, SemrouteError) else None
            return _abstained(self._plugin, self.name, said(error), logged)
        if not isinstance(result, StrategyResult):
            return _abstained(self._plugin, self.name, f"it gave a {type(result).__name__}, and no StrategyResult")
        return replace(result, strategy=self.name)


def _abstained(plugin: Plugin, name: str, why: str, logged: str | None = None) -> StrategyResult:
    log.warning("%s failed, and the strategies after it decide: %s", plugin, logged or why)
    return StrategyResult(name, "passed", f"the plugin failed: {why}")


def plugin_strategy(plugin: Plugin, options: Any, setup: StrategySetup) -> Strategy:
    """Return a plugin's strategy, checked for the protocol's members.

    Raises:
        PluginError: it cannot be made, or is no strategy.
        SemrouteError: as the factory raised it.
    """
    made = make(plugin, options, setup, needs={"name": str})
    is_local, is_asking = isinstance(made, LocalStrategy), isinstance(made, ModelStrategy)
    if not is_local and not is_asking:
        members = 'either "decide" and "needs_vectors", or "adecide"'
        raise plugin.error(f"gives a {type(made).__name__}, which is no strategy: it needs {members}")
    if made.name != setup.name:
        message = f'names its strategy "{made.name}", and the configuration "{setup.name}"'
        raise plugin.error(f"{message}: the two must be the same")
    return PluginStrategy(plugin, made) if is_local else PluginModelStrategy(plugin, made)

"""Policies of a router: serving, on trial, and those asked for by name.

Each is the configuration with the sections of a file laid over it, such as the ``policy.yaml`` of ``semroute
tune-policy``: strategies, thresholds, rules and cascade. Models and deployments are the configuration's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from semroute.config import Config
from semroute.dispatch.constraints import POLICIES, Constraints
from semroute.errors import InputError
from semroute.router.complete import Answering
from semroute.router.decide import chain_of
from semroute.router.experiment import Experiment, Propensities, TrafficShare, tried_config
from semroute.router.load import LoadedIndex
from semroute.strategies import Chain
from semroute.strategies.chain import Offload
from semroute.text.names import known_names
from semroute.types import Decision, ModelClient, OutcomeSink, Request

if TYPE_CHECKING:
    from semroute.router.shadow import BlindComparer


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """Policy that a request may ask for.

    Attributes:
        chain: its strategies.
        answering: answers its decisions; it may have another cascade.
    """

    chain: Chain
    answering: Answering


def open_trial(live: LoadedIndex, config: Config, share: TrafficShare) -> Experiment | None:
    """Open the policy on trial; None without one.

    Raises:
        ConfigError, ArtifactError: its file, or what it names, cannot be used.
    """
    tried = tried_config(config)
    if tried is None:
        return None
    policy = _open(live, tried)
    return Experiment(policy.chain, policy.answering, share, Propensities(config, tried))


def open_comparer(config: Config, log: OutcomeSink | None) -> BlindComparer | None:
    """Open the comparer of a trial's answers; None where it has no judge."""
    if config.trial.judge is None:
        return None
    # Only then: it imports the event loop's modules.
    from semroute.router.shadow import BlindComparer

    return BlindComparer.of(config, log)


def open_policies(live: LoadedIndex, config: Config) -> Mapping[str, NamedPolicy]:
    """Open the policies that a configuration names.

    Raises:
        ConfigError, ArtifactError: the file of one, or what it names, cannot be used.
    """
    if not config.policies:
        return MappingProxyType({})
    from semroute.config.load import overlaid

    return {name: _open(live, overlaid(config, path, key=f"policies.{name}")) for name, path in config.policies.items()}


def _open(live: LoadedIndex, config: Config) -> NamedPolicy:
    live = live.with_config(config)
    chain = chain_of(live, config)
    return NamedPolicy(chain, Answering(config, chain.pool, live.without_models))


@dataclass(frozen=True, slots=True)
class PolicyPair:
    """Serving policy, the policy on trial, and those asked for by name.

    Read once for a query: it sees the old artifact or the new one, never parts of both.
    """

    chain: Chain
    trial: Experiment | None
    named: Mapping[str, NamedPolicy] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def asks(self) -> bool:
        """True if a strategy of any of them calls a model."""
        trial = self.trial is not None and self.trial.asks
        return self.chain.asks or trial or any(policy.chain.asks for policy in self.named.values())

    def asked_by(self, constraints: Constraints) -> PolicyPair:
        """Return the policies that decide on a request.

        They are the serving and the trial policy, or the one that it asks for.

        Raises:
            InputError: it asks for a category that the index does not have, or for a policy that there is not.
        """
        category, models = constraints.category, self.chain.models
        if category is not None and category not in models:
            raise InputError(f"constraints.category: {known_names(category, models, 'the index has')}")
        if constraints.policy is None:
            return PolicyPair(self.chain, self.trial)
        if constraints.policy == "serving":
            return PolicyPair(self.chain, None)
        if constraints.policy != "trial":
            if constraints.policy not in self.named:
                known = known_names(constraints.policy, [*POLICIES, *self.named], "there are")
                raise InputError(f"constraints.policy: {known}; policies in semroute.yaml names further ones")
            return PolicyPair(self.named[constraints.policy].chain, None)
        if self.trial is None:
            raise InputError("constraints.policy: there is no policy on trial; trial.policy in semroute.yaml names one")
        return PolicyPair(self.trial.chain, None)

    def decide(
        self,
        texts: Sequence[str],
        requests: Sequence[Request],
        client: ModelClient | None = None,
        *,
        is_pinned: bool = False,
        category: str | None = None,
    ) -> list[Decision]:
        """Decide as :meth:`semroute.strategies.Chain.decide` does.

        ``is_pinned``: the caller pins the model, whatever the assignment.
        """
        served = self.chain.decide(texts, requests, client, category=category)
        if self.trial is None:
            return served
        return self.trial.decide(served, texts, requests, client, is_pinned=is_pinned, category=category)

    async def adecide(
        self,
        texts: Sequence[str],
        requests: Sequence[Request],
        client: ModelClient,
        offload: Offload,
        *,
        category: str | None = None,
    ) -> list[Decision]:
        """Decide, and call the models that strategies need on this event loop.

        Computation runs in threads. They are not those of asyncio's default executor, where look-ups of hosts wait for
        name servers.
        """
        served = await self.chain.adecide(texts, requests, client, offload, category=category)
        if self.trial is None:
            return served
        return await self.trial.adecide(served, texts, requests, client, offload, category=category)

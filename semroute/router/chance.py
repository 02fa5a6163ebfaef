"""What a trial notes on its decisions for those who compare from the log: which policies, what share, what chance.

Both policies decide on every query, and the draw between them is the only chance: the model that is called has the
share of the policy that is followed, or 1 where both name it.
"""

from __future__ import annotations

import hashlib
import json

from semroute.config import Config
from semroute.types import Assignment

_DECIDING = frozenset(
    {"index", "groups", "categories", "fallback", "strategies", "rules", "semantic", "classifier", "judge", "cascade"}
)
"""Sections of the configuration that a policy is made of."""


class Propensities:
    """The draw between two policies.

    Args:
        serving: the configuration that serves.
        tried: that of the policy on trial.
    """

    def __init__(self, serving: Config, tried: Config) -> None:
        self._serving, self._tried = serving, tried
        # Whether a cascade goes on to another tier depends on the answer: no share tells how likely that is.
        self._climbs = _climbs(serving) or _climbs(tried)
        self._policy = trial_fingerprint(serving, tried)

    def draw(self, share: float, model: str = "", others: tuple[str, ...] = (), *, by_trial: bool) -> Assignment:
        """What there is to tell of a decision.

        Args:
            share: of the trial, when it was drawn.
            model: that was decided on; empty where the caller pins another.
            others: what the policy that is not followed decided on; empty where it failed.
            by_trial: whether the policy on trial is followed.
        """
        return Assignment(self._policy, share, self._probability(share, model, others, by_trial) if model else None)

    def _probability(self, share: float, model: str, others: tuple[str, ...], by_trial: bool) -> float | None:
        if self._climbs:
            return None
        followed, other = (self._tried, self._serving) if by_trial else (self._serving, self._tried)
        if not others:  # the policy that serves was followed for certain
            return 1.0
        named, else_named = followed.members(model), other.members(others[0])
        # Of a group one model is drawn by its place's signals, which are a matter of the moment.
        if len(named) > 1 or len(else_named) > 1:
            return None
        if named == else_named:
            return 1.0
        return share if by_trial else 1.0 - share


def trial_fingerprint(serving: Config, tried: Config) -> str:
    """What tells one pair of policies from another, 12 hex digits: of the sections that policies are made of."""
    told = [config.model_dump(mode="json", include=set(_DECIDING)) for config in (serving, tried)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _climbs(config: Config) -> bool:
    cascades = [config.cascade, *(of.cascade for of in config.categories.values() if of.cascade is not None)]
    return any(cascade.tiers for cascade in cascades)

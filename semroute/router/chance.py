"""With what probability a trial came to the model that it chose, noted for estimates from the log.

Both policies decide on every query, and the draw between them is the only chance: the model that is called has the
share of the policy that is followed, or 1 where both name it.
"""

from __future__ import annotations

from dataclasses import replace

from semroute.config import Config
from semroute.router.trial import LiveShare
from semroute.strategies.chain import Deciding
from semroute.types import TRIAL, Decision


class Chances:
    """Notes the probability on the decisions of a trial.

    Args:
        serving: the configuration that serves.
        tried: that of the policy on trial.
        share: of the trial.
    """

    def __init__(self, serving: Config, tried: Config, share: LiveShare) -> None:
        self._serving, self._tried, self._share = serving, tried, share
        # Whether a cascade goes on to another tier depends on the answer: no share tells how likely that is.
        self._climbs = _climbs(serving) or _climbs(tried)

    def noted(self, deciding: Deciding) -> Deciding:
        """The decisions, each opinion of the trial with the probability of the decision's model."""
        before = self._share.now()
        decisions = yield from deciding
        # Between the two looks the trial had its own: where the share has changed, which one it saw is not known.
        share = before if self._share.now() == before else None
        return [self._told(decision, share) for decision in decisions]

    def _told(self, decision: Decision, share: float | None) -> Decision:
        opinions = tuple(
            replace(said, probability=self._probability(decision.model, said.candidates, share, said.kind == "decided"))
            if said.strategy == TRIAL
            else said
            for said in decision.opinions
        )
        return replace(decision, opinions=opinions)

    def _probability(self, model: str, others: tuple[str, ...], share: float | None, by_trial: bool) -> float | None:
        """The probability of ``model``, the other policy having decided on ``others``; None where it is not known."""
        if self._climbs:
            return None
        followed, other = (self._tried, self._serving) if by_trial else (self._serving, self._tried)
        if not others:  # the trial failed: the policy that serves was followed for certain
            return 1.0
        named, else_named = followed.members(model), other.members(others[0])
        # Of a group one model is drawn by its place's signals, which are a matter of the moment.
        if len(named) > 1 or len(else_named) > 1:
            return None
        if named == else_named:
            return 1.0
        if share is None:
            return None
        return share if by_trial else 1.0 - share


def _climbs(config: Config) -> bool:
    cascades = [config.cascade, *(of.cascade for of in config.categories.values() if of.cascade is not None)]
    return any(cascade.tiers for cascade in cascades)

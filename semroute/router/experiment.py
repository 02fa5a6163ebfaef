"""Shadow and A/B test of a routing policy, with logged propensities.

Both policies decide on every query, and the assignment between them is the only random choice: the propensity of the
model that is called is the traffic share of the policy that is followed, or 1 if both choose it. Off-policy estimates
from the log rest on these propensities.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from traceback import extract_tb

from semroute.config import Config
from semroute.errors import SemrouteError, unquoted
from semroute.router.complete import Answering
from semroute.storage import read_json
from semroute.strategies import Chain
from semroute.strategies.chain import Offload
from semroute.text.normalise import hash_fraction
from semroute.types import TRIAL, Assignment, Decision, ModelClient, Request, StrategyResult

_DECIDING = frozenset(
    {"index", "groups", "categories", "fallback", "strategies", "rules", "semantic", "classifier", "judge", "cascade"}
)
"""Sections of the configuration that make up a policy."""


class Propensities:
    """Propensities of the assignment between two policies.

    Args:
        serving: the configuration that serves.
        tried: that of the policy on trial.
    """

    def __init__(self, serving: Config, tried: Config) -> None:
        self._serving, self._tried = serving, tried
        # Whether a cascade escalates to another tier depends on the answer: its propensity is not known.
        self._climbs = _climbs(serving) or _climbs(tried)
        self._policy = trial_fingerprint(serving, tried)

    def draw(self, share: float, model: str = "", others: tuple[str, ...] = (), *, by_trial: bool) -> Assignment:
        """Return the assignment of a decision, with its propensity.

        No propensity is given for cascades, model groups and pinned models.

        Args:
            share: traffic share of the trial at the assignment.
            model: the chosen model; empty if the caller pins another.
            others: candidates of the policy that is not followed; empty if it failed.
            by_trial: True if the policy on trial is followed.
        """
        return Assignment(self._policy, share, self._probability(share, model, others, by_trial) if model else None)

    def _probability(self, share: float, model: str, others: tuple[str, ...], by_trial: bool) -> float | None:
        if self._climbs:
            return None
        followed, other = (self._tried, self._serving) if by_trial else (self._serving, self._tried)
        if not others:  # the policy that serves was followed for certain
            return 1.0
        named, else_named = followed.members(model), other.members(others[0])
        # A group's model is sampled by signals of its endpoints, which change from moment to moment.
        if len(named) > 1 or len(else_named) > 1:
            return None
        if named == else_named:
            return 1.0
        return share if by_trial else 1.0 - share


def trial_fingerprint(serving: Config, tried: Config) -> str:
    """Return 12 hex digits that identify a pair of policies."""
    told = [
        config.model_dump(mode="json", include={*_DECIDING, *config.plugin_strategies}) for config in (serving, tried)
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _climbs(config: Config) -> bool:
    cascades = [config.cascade, *(of.cascade for of in config.categories.values() if of.cascade is not None)]
    return any(cascade.tiers for cascade in cascades)


# The experiment: a policy on trial in shadow mode first, then with a share of the queries, then with all or none.
#
# Both policies decide on every query. Which of them is followed follows from a hash of the query's text, so that the
# same query always gets the same policy, and a larger share only adds queries. The other policy's decision is among the
# decision's strategy results, under the name "trial".

LOOK_S = 1.0
"""Interval between two looks at the file with the share, seconds."""

log = logging.getLogger("semroute")


class TrafficShare:
    """Current traffic share of a trial.

    Args:
        path: the file that ``semroute trial share`` writes; without it ``default`` counts.
        default: the configured share.
    """

    def __init__(self, path: Path, default: float) -> None:
        self._path, self._default = path, default
        self._known, self._looked = default, -LOOK_S

    def now(self) -> float:
        """Return the share; an unreadable file leaves it as it was."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            try:
                self._known = read_share(self._path, self._default)
            except (OSError, ValueError) as error:
                log.warning("%s: cannot be read (%s); the trial keeps its share of %g", self._path, error, self._known)
        return self._known


def read_share(path: Path, default: float) -> float:
    """Return the share in a file, or ``default`` if there is no file.

    Raises:
        OSError, ValueError: it cannot be read, or holds no share.
    """
    try:
        told = read_json(path)
    except FileNotFoundError:
        return default
    share = told.get("share") if isinstance(told, dict) else None
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError("it tells no share from 0 to 1")
    return float(share)


class Experiment:
    """Policy on trial, compared with the one that serves.

    Args:
        chain: its strategies.
        answering: answers its decisions; it may have another cascade.
        share: traffic share that it decides.
        chances: propensities, noted on every decision.
    """

    def __init__(self, chain: Chain, answering: Answering, share: TrafficShare, chances: Propensities) -> None:
        self.chain, self.answering, self._share, self._chances = chain, answering, share, chances

    @property
    def asks(self) -> bool:
        """True if one of its strategies calls a model."""
        return self.chain.asks

    def decide(
        self,
        served: list[Decision],
        texts: Sequence[str],
        requests: Sequence[Request],
        client: ModelClient | None,
        *,
        is_pinned: bool = False,
        category: str | None = None,
    ) -> list[Decision]:
        """Return the decisions to follow, each with the other policy's result.

        A trial that fails decides nothing; the decision's strategy results hold the reason.

        Args:
            served: decisions of the policy that serves.
            texts: routed texts of the queries.
            requests: the whole requests.
            client: model client of strategies that call a model.
            is_pinned: True if the caller pins the model, whatever the assignment.
            category: the category that the caller asks for.
        """
        share = self._share.now()
        try:
            tried = self.chain.decide(texts, requests, client, category=category)
            return self._chosen(texts, served, tried, share, is_pinned)
        # Any error: the policy that serves has decided, and a failing trial must not affect its users.
        except Exception as error:
            return self._failed(served, error, share, is_pinned)

    async def adecide(
        self,
        served: list[Decision],
        texts: Sequence[str],
        requests: Sequence[Request],
        client: ModelClient,
        offload: Offload,
        *,
        category: str | None = None,
    ) -> list[Decision]:
        """Decide as :meth:`decide` does, and call the models that strategies need.

        Arguments as there, and as of :meth:`semroute.strategies.Chain.adecide`.
        """
        share = await offload(self._share.now)
        try:
            tried = await self.chain.adecide(texts, requests, client, offload, category=category)
            return self._chosen(texts, served, tried, share, is_pinned=False)
        except Exception as error:
            return self._failed(served, error, share, is_pinned=False)

    def _chosen(
        self,
        texts: Sequence[str],
        served: Sequence[Decision],
        tried: Sequence[Decision],
        share: float,
        is_pinned: bool,
    ) -> list[Decision]:
        decisions = []
        for text, old, new in zip(texts, served, tried, strict=True):
            by_trial = hash_fraction(text) < share
            decision, other = (new, old) if by_trial else (old, new)
            decisions.append(self._followed(decision, other, share, by_trial, is_pinned))
        return decisions

    def _failed(self, served: Sequence[Decision], error: Exception, share: float, is_pinned: bool) -> list[Decision]:
        why = _why(error)
        log.warning("the policy on trial failed: %s", unquoted(error) if isinstance(error, SemrouteError) else why)
        return [self._unheard(decision, f"it failed: {why}", share, is_pinned) for decision in served]

    def _unheard(self, decision: Decision, said: str, share: float, is_pinned: bool) -> Decision:
        draw = self._chances.draw(share, "" if is_pinned else decision.model, by_trial=False)
        return replace(decision, opinions=(*decision.opinions, StrategyResult(TRIAL, "passed", said, draw=draw)))

    def _followed(self, decision: Decision, other: Decision, share: float, by_trial: bool, is_pinned: bool) -> Decision:
        named = "" if is_pinned else decision.model
        return decision_followed(
            decision, other, self._chances.draw(share, named, other.candidates, by_trial=by_trial), by_trial
        )


def _why(error: Exception) -> str:
    """Return the reason of a failure, safe to log.

    Of a foreign error only type, file and line are given: its words may hold anything, a key among them.
    """
    if isinstance(error, SemrouteError):
        return str(error)
    last = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"


def decision_followed(decision: Decision, other: Decision, draw: Assignment, by_trial: bool) -> Decision:
    """Return a decision with the other policy's result and both times added."""
    said = f"{other.model}: {other.reason}"
    opinion = StrategyResult(
        strategy=TRIAL,
        kind="decided" if by_trial else "passed",
        reason=f"the policy on trial decides; the other one says {said}"
        if by_trial
        else f"only watched; it says {said}",
        candidates=other.candidates,
        category=other.category,
        elapsed_ms=other.elapsed_ms,
        attempts=other.attempts,
        draw=draw,
        other=other,
    )
    return replace(
        decision,
        opinions=(*decision.opinions, opinion),
        elapsed_ms=decision.elapsed_ms + other.elapsed_ms,
        steps_ms={**decision.steps_ms, TRIAL: other.elapsed_ms},
    )


def is_by_trial(decision: Decision) -> bool:
    """Return True if the policy on trial has decided."""
    return any(opinion.strategy == TRIAL and opinion.kind == "decided" for opinion in decision.opinions)


def tried_config(config: Config) -> Config | None:
    """Return the configuration of the policy on trial; None without one.

    Raises:
        ConfigError: its file cannot be used.
    """
    if config.trial.policy is None:
        return None
    from semroute.config.load import overlaid

    return overlaid(config, config.trial.policy)

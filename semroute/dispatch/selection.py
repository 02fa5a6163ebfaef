"""Endpoint selection: call estimates, scoring and sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from semroute.catalog import Needs
from semroute.config import Deployment, Selection
from semroute.dispatch.plan import Candidate, DispatchPlan
from semroute.resilience.latency import LatencyWindows
from semroute.types import AdmissionControl, CallEstimate, Endpoint, EndpointStatus, Permit

USUAL_ANSWER = 200
"""Output tokens assumed when comparing endpoints for a request that does not limit its answer."""


def expected_s(latencies: LatencyWindows, candidate: Candidate, needs: Needs, streaming: bool) -> float | None:
    """Return the median time of an answer at an endpoint, seconds.

    None if not measured yet.
    """
    estimate = latencies.estimate(candidate.deployment.name, streaming=streaming, prompt_tokens=needs.input_tokens)
    if estimate is None:
        return None
    if not streaming or estimate.first_token_p50_s is None or estimate.per_token_p50_s is None:
        return estimate.total_p50_s
    return estimate.first_token_p50_s + estimate.per_token_p50_s * min(needs.max_output_tokens, USUAL_ANSWER)


async def estimate_call(
    plan: DispatchPlan, gates: AdmissionControl, latencies: LatencyWindows, *, streaming: bool
) -> CallEstimate:
    """Estimate price, latency and availability over the endpoints of a plan.

    Queries admission control once and reserves nothing.
    """
    candidates = plan.candidates
    endpoints = [candidate.endpoint for candidate in candidates]
    statuses = await gates.statuses(endpoints, plan.tokens, [candidate.usd or 0.0 for candidate in candidates])
    is_open = [one for one, status in zip(candidates, statuses, strict=True) if status.wait_s == 0.0]
    if not is_open:
        waits = [status.wait_s for status in statuses if status.wait_s is not None]
        return CallEstimate(closed=reasons_of(endpoints, statuses), wait_s=min(waits, default=None))
    prices = [one.usd for one in is_open if one.usd is not None]
    times = [time for one in is_open if (time := expected_s(latencies, one, plan.needs, streaming)) is not None]
    return CallEstimate(usd=min(prices, default=None), expected_s=min(times, default=None))


def reasons_of(endpoints: Sequence[Endpoint], statuses: Sequence[EndpointStatus]) -> str:
    """Format why each endpoint is closed: deployment, and variable of its key."""
    return "; ".join(
        f"{_named(endpoint)}: {status.reason or 'closed'}" for endpoint, status in zip(endpoints, statuses, strict=True)
    )


def _named(endpoint: Endpoint) -> str:
    name = endpoint.deployment
    return name if endpoint.credential is None else f"{name} with {endpoint.credential}"


# Scoring and sampling of candidates by four live signals.
#
# Each signal is a score between 0 and 1 relative to the other candidates; their weighted mean is the endpoint's score.
# Probabilities are a softmax of the scores, reduced by calls in flight and by the breaker's ramp, with some
# exploration: always taking the best would send every request of a busy moment to one endpoint and stop measuring the
# others.

DOUBTED_CALLS = 4
"""Prior of the failure rate: successful calls added to each endpoint, since one failure of one call is not a rate."""


class ScoredCandidate(NamedTuple):
    """Candidate with the parts of its score and its sampling probability."""

    candidate: Candidate
    parts: Mapping[str, float] = MappingProxyType({})
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """An endpoint to call now, with its permit.

    Attributes:
        scored: the candidate that was sampled.
        permit: permit of the call.
        siblings: deployments of its stage.
        retry: True if the deployment was called before.
        has_others: True if another deployment could be called now if this one stays silent.
    """

    scored: ScoredCandidate
    permit: Permit
    siblings: tuple[Deployment, ...] = ()
    retry: bool = False
    has_others: bool = False

    @property
    def candidate(self) -> Candidate:
        return self.scored.candidate

    @property
    def deployment(self) -> Deployment:
        return self.scored.candidate.target.deployment


def score(candidates: Sequence[Candidate], selection: Selection) -> list[ScoredCandidate]:
    """Score each candidate and compute its probability, in the order given.

    The parts are ``cost``, ``latency``, ``availability``, ``capability`` (0 to 1 each) and ``total``, their weighted
    mean.
    """
    costs = _relative([one.usd for one in candidates])
    times = _relative([one.expected_s for one in candidates])
    parts = [_parts(*signals, selection) for signals in zip(candidates, costs, times, strict=True)]
    return [
        ScoredCandidate(candidate, part, probability)
        for candidate, part, probability in zip(
            candidates, parts, _probabilities(candidates, parts, selection), strict=True
        )
    ]


def sample(scored: Sequence[ScoredCandidate], random: Random) -> ScoredCandidate:
    """Sample one candidate by the probabilities."""
    (sampled,) = random.choices(scored, [one.probability for one in scored])
    return sampled


def _parts(candidate: Candidate, cost: float, latency: float, selection: Selection) -> dict[str, float]:
    status, weights = candidate.status, selection.weights
    evidence = status.calls / (status.calls + DOUBTED_CALLS)
    availability = (1.0 - status.failure_share * evidence) * status.headroom
    capability = candidate.strength
    total = (
        weights.cost * cost
        + weights.latency * latency
        + weights.availability * availability
        + weights.capability * capability
    ) / (weights.cost + weights.latency + weights.availability + weights.capability)
    return {
        "cost": cost,
        "latency": latency,
        "availability": availability,
        "capability": capability,
        "total": total,
    }


def _relative(values: Sequence[float | None]) -> list[float]:
    """Divide the least value by each: 1 for the best, 0.5 for its double.

    An unknown value is imputed as the median of the known ones. An endpoint that hangs is never measured, so an unknown
    value must not be the best; exploration ensures that a new endpoint is tried and measured.
    """
    known = [value for value in values if value is not None]
    if not known:
        return [1.0] * len(values)
    best, imputed = min(known), median(known)
    return [_over(best, imputed if value is None else value) for value in values]


def _over(best: float, value: float) -> float:
    return 1.0 if value <= best else best / value


def _probabilities(
    candidates: Sequence[Candidate], parts: Sequence[Mapping[str, float]], selection: Selection
) -> list[float]:
    highest = max(part["total"] for part in parts)
    least_busy = min(one.status.in_flight for one in candidates)
    weights = [
        math.exp(selection.sharpness * (part["total"] - highest))
        * (1 + least_busy)
        / (1 + one.status.in_flight)
        * one.status.ramp
        for one, part in zip(candidates, parts, strict=True)
    ]
    ramps = [one.status.ramp for one in candidates]
    if sum(weights) <= 0.0:  # every ramp is 0
        return [1.0 / len(candidates)] * len(candidates)
    explored = selection.exploration
    return [
        (1.0 - explored) * (weight / sum(weights)) + explored * (ramp / sum(ramps))  # shares first: a product may be 0
        for weight, ramp in zip(weights, ramps, strict=True)
    ]

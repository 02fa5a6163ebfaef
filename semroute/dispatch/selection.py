"""Endpoint selection: call estimates, scoring and sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from semroute.catalog import Needs
from semroute.config import Selection
from semroute.dispatch.plan import DispatchPlan, Option
from semroute.resilience.latency import LatencyWindows
from semroute.types import AdmissionControl, CallEstimate, Endpoint, EndpointStatus

USUAL_ANSWER = 200
"""Output tokens assumed when comparing endpoints for a request that does not limit its answer."""


def expected_s(latencies: LatencyWindows, option: Option, needs: Needs, streaming: bool) -> float | None:
    """Return the median time of an answer at an endpoint, seconds.

    None if not measured yet.
    """
    estimate = latencies.estimate(option.deployment.name, streaming=streaming, prompt_tokens=needs.input_tokens)
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
    options = plan.options
    standings = await gates.standings(
        [option.place for option in options], plan.tokens, [option.usd or 0.0 for option in options]
    )
    is_open = [option for option, standing in zip(options, standings, strict=True) if standing.wait_s == 0.0]
    if not is_open:
        waits = [standing.wait_s for standing in standings if standing.wait_s is not None]
        reasons = (
            f"{named(option.place)}: {standing.reason or 'closed'}"
            for option, standing in zip(options, standings, strict=True)
        )
        return CallEstimate(closed="; ".join(reasons), wait_s=min(waits, default=None))
    prices = [option.usd for option in is_open if option.usd is not None]
    times = [time for option in is_open if (time := expected_s(latencies, option, plan.needs, streaming)) is not None]
    return CallEstimate(usd=min(prices, default=None), expected_s=min(times, default=None))


def named(place: Endpoint) -> str:
    """Format an endpoint for messages: deployment, and variable of its key."""
    return place.deployment if place.credential is None else f"{place.deployment} with {place.credential}"


# Scoring and sampling of candidates by four live signals.
#
# Each signal is a score between 0 and 1 relative to the other candidates; their weighted mean is the endpoint's score.
# Probabilities are a softmax of the scores, reduced by calls in flight and by the breaker's ramp, with some
# exploration: always taking the best would send every request of a busy moment to one endpoint and stop measuring the
# others.

DOUBTED_CALLS = 4
"""Prior of the failure rate: successful calls added to each endpoint, since one failure of one call is not a rate."""


class Candidate(NamedTuple):
    """Endpoint that may be called now, with its live status.

    ``expected_s`` is the expected time of the answer there, seconds; None if not measured yet.
    """

    option: Option
    standing: EndpointStatus
    expected_s: float | None


class ScoredCandidate(NamedTuple):
    """Candidate with the parts of its score and its sampling probability."""

    ready: Candidate
    parts: Mapping[str, float] = MappingProxyType({})
    probability: float = 1.0


def score(ready: Sequence[Candidate], selection: Selection) -> list[ScoredCandidate]:
    """Score each candidate and compute its probability, in the order given.

    The parts are ``cost``, ``latency``, ``availability``, ``capability`` (0 to 1 each) and ``total``, their weighted
    mean.
    """
    costs = _relative([place.option.usd for place in ready])
    times = _relative([place.expected_s for place in ready])
    parts = [_parts(*signals, selection) for signals in zip(ready, costs, times, strict=True)]
    return [
        ScoredCandidate(place, part, probability)
        for place, part, probability in zip(ready, parts, _probabilities(ready, parts, selection), strict=True)
    ]


def sample(scored: Sequence[ScoredCandidate], random: Random) -> ScoredCandidate:
    """Sample one candidate by the probabilities."""
    (drawn,) = random.choices(scored, [one.probability for one in scored])
    return drawn


def _parts(ready: Candidate, cost: float, latency: float, selection: Selection) -> dict[str, float]:
    standing, weights = ready.standing, selection.weights
    evidence = standing.calls / (standing.calls + DOUBTED_CALLS)
    availability = (1.0 - standing.failure_share * evidence) * standing.headroom
    capability = ready.option.strength
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
    best, stand_in = min(known), median(known)
    return [_over(best, stand_in if value is None else value) for value in values]


def _over(best: float, value: float) -> float:
    return 1.0 if value <= best else best / value


def _probabilities(
    ready: Sequence[Candidate], parts: Sequence[Mapping[str, float]], selection: Selection
) -> list[float]:
    highest = max(part["total"] for part in parts)
    least_busy = min(place.standing.in_flight for place in ready)
    weights = [
        math.exp(selection.sharpness * (part["total"] - highest))
        * (1 + least_busy)
        / (1 + place.standing.in_flight)
        * place.standing.ramp
        for place, part in zip(ready, parts, strict=True)
    ]
    ramps = [place.standing.ramp for place in ready]
    if sum(weights) <= 0.0:  # every ramp is 0
        return [1.0 / len(ready)] * len(ready)
    explored = selection.exploration
    return [
        (1.0 - explored) * (weight / sum(weights)) + explored * (ramp / sum(ramps))  # shares first: a product may be 0
        for weight, ramp in zip(weights, ramps, strict=True)
    ]

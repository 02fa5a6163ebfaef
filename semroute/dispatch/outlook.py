"""What a call would mean now: its price, its time, and whether a place is open."""

from __future__ import annotations

from semroute.catalog import Needs
from semroute.dispatch.plan import DispatchPlan, Option
from semroute.resilience.latency import LatencyWindows
from semroute.types import AdmissionControl, CallEstimate, Endpoint

USUAL_ANSWER = 200
"""Output tokens with which places are compared when the request does not limit its answer."""


def expected_s(latencies: LatencyWindows, option: Option, needs: Needs, streaming: bool) -> float | None:
    """The median time that the answer takes at a place, seconds; None where it was not measured yet."""
    estimate = latencies.estimate(option.deployment.name, streaming=streaming, prompt_tokens=needs.input_tokens)
    if estimate is None:
        return None
    if not streaming or estimate.first_token_p50_s is None or estimate.per_token_p50_s is None:
        return estimate.total_p50_s
    return estimate.first_token_p50_s + estimate.per_token_p50_s * min(needs.max_output_tokens, USUAL_ANSWER)


async def estimate_call(
    plan: DispatchPlan, gates: AdmissionControl, latencies: LatencyWindows, *, streaming: bool
) -> CallEstimate:
    """How the places of a plan stand together; asks the gates once and reserves nothing."""
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
    """A place for a person: the deployment, and the variable of the key where there is one."""
    return place.deployment if place.credential is None else f"{place.deployment} with {place.credential}"

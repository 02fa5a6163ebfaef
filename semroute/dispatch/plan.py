"""Dispatch plan: candidate endpoints, call estimates, scores, sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from types import MappingProxyType
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

from semroute.catalog import Needs, estimated_cost, fits, model_card, needs_of, price_of, strength
from semroute.config import Config, Deployment, Selection
from semroute.dispatch.constraints import Constraints
from semroute.errors import CapabilityError, DispatchError, NoDeploymentError
from semroute.providers import CallTarget
from semroute.resilience.latency import LatencyWindows
from semroute.text.names import did_you_mean, known_names
from semroute.types import AdmissionControl, CallEstimate, Cost, Endpoint, EndpointStatus, Permit, Request


class Candidate(NamedTuple):
    """Endpoint that may answer.

    A tuple, because one is made for each endpoint and call.

    Attributes:
        target: deployment and credential.
        endpoint: the endpoint as admission control identifies it.
        usd: expected cost of the request there with the longest answer; None if no price is known.
        strength: how well the model does what the request needs, 0 to 1.
        status: its status when it was last asked for.
        expected_s: expected time of the answer there, seconds; None if not measured yet.
    """

    target: CallTarget
    endpoint: Endpoint
    usd: float | None
    strength: float
    status: EndpointStatus = EndpointStatus()
    expected_s: float | None = None

    @property
    def deployment(self) -> Deployment:
        return self.target.deployment


Stage: TypeAlias = tuple[Candidate, ...]
"""Endpoints of one model or group; the next stage is used if none of them answers."""


@dataclass(frozen=True, slots=True)
class DispatchPlan:
    """Plan of a dispatch: non-empty stages in order, needs, budget in USD."""

    stages: tuple[Stage, ...]
    needs: Needs
    total_usd: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens that a call reserves: input and longest answer."""
        return self.needs.tokens

    @property
    def candidates(self) -> list[Candidate]:
        """Endpoints of all stages."""
        return [candidate for stage in self.stages for candidate in stage]


@dataclass(frozen=True, slots=True)
class _Deployed:
    """Deployment with its configured endpoints, one per credential."""

    deployment: Deployment
    endpoints: tuple[Endpoint, ...]
    names: frozenset[str]


class Planner:
    """Planner of the endpoints that may answer a request.

    Args:
        config: deployments and rules.
        env: environment from which API keys are read, at each call, so that they can be replaced.
    """

    def __init__(self, config: Config, env: Mapping[str, str]) -> None:
        self._config = config
        self._env = env
        self._deployed = {
            deployment.name: _Deployed(
                deployment,
                tuple(endpoint_of(deployment, variable, config) for variable in deployment.api_key_env or (None,)),
                _names_of(deployment, config),
            )
            for deployment in config.deployments
        }
        self._by_name: dict[str, tuple[_Deployed, ...]] = {
            name: tuple(self._deployed[deployment.name] for deployment in config.deployments_of(name))
            for name in (*config.groups, *dict.fromkeys(deployment.model for deployment in config.deployments))
        }

    def know_models(self) -> None:
        """Look up every deployment's model once.

        The first read of the price list takes a third of a second.
        """
        for one in self._deployed.values():
            model_card(one.deployment.model, self._config)
            price_of(one.deployment, self._config)

    def plan(
        self,
        request: Request,
        candidates: Sequence[str],
        constraints: Constraints,
        input_tokens: int | None = None,
    ) -> DispatchPlan:
        """Return the dispatch plan of a request.

        ``input_tokens`` is the request's estimate where it is known.

        Raises:
            NoDeploymentError: no deployment may answer; the message gives the reason for each.
            CapabilityError: there are deployments, but none of them can do what the request needs.
        """
        names = self._names(candidates, constraints)
        needs = needs_of(request, constraints.wants, input_tokens)
        stages, refused = list[Stage](), list[tuple[Deployment, str, bool]]()
        for name in names:
            found = self._by_name.get(name, ())
            stage = tuple(
                candidate for one in found for candidate in self._candidates(one, needs, constraints, refused)
            )
            stages.extend(_preferred_first(stage, constraints.prefer))
        if not stages:
            raise _nobody(names, refused, self._by_name)
        return DispatchPlan(tuple(stages), needs, constraints.total_usd)

    def _names(self, candidates: Sequence[str], constraints: Constraints) -> tuple[str, ...]:
        """Return the candidates, or the model that the request pins.

        Raises:
            NoDeploymentError: the pinned deployment does not exist.
        """
        if constraints.model is not None:
            return (constraints.model,)
        if constraints.deployment is None:
            return tuple(dict.fromkeys(candidates))
        one = self._deployed.get(constraints.deployment)
        if one is None:
            known = known_names(constraints.deployment, self._deployed, "there are")
            message = f'no deployment is named "{constraints.deployment}"; {known}'
            raise NoDeploymentError(message, deployment=constraints.deployment)
        return (one.deployment.model,)

    def _candidates(
        self, one: _Deployed, needs: Needs, constraints: Constraints, refused: list[tuple[Deployment, str, bool]]
    ) -> Iterator[Candidate]:
        """Yield the endpoints of a deployment, or add a reason to ``refused``."""
        deployment = one.deployment
        cost = estimated_cost(deployment, self._config, needs.input_tokens, needs.output_tokens)
        lacking = fits(deployment, self._config, needs)
        reasons = (*constraints.against(deployment, cost, one.names), *_unpriced(one, cost), *lacking)
        if reasons:
            refused.append((deployment, "; ".join(reasons), len(reasons) == len(lacking)))
            return
        usd, how_strong = None if cost is None else cost.usd, strength(deployment, self._config, needs)
        has_key = False
        for endpoint in one.endpoints:
            key = None if endpoint.credential is None else self._env.get(endpoint.credential, "").strip()
            if key != "":
                has_key = True
                yield Candidate(CallTarget(deployment, endpoint.credential, key), endpoint, usd, how_strong)
        if not has_key:
            wanted = " or ".join(deployment.api_key_env)
            refused.append((deployment, f"it needs a key: export {wanted} (deployments, api_key_env)", False))


def _preferred_first(stage: Stage, prefer: str | None) -> Iterator[Stage]:
    """Yield the stage of the preferred deployment, then that of the others."""
    if prefer is None:
        yield from (stage,) if stage else ()
        return
    preferred = tuple(one for one in stage if one.deployment.name == prefer)
    others = tuple(one for one in stage if one.deployment.name != prefer)
    yield from filter(None, (preferred, others))


def _names_of(deployment: Deployment, config: Config) -> frozenset[str]:
    """Return the names under which allow and deny lists match a deployment."""
    groups = (group for group, models in config.groups.items() if deployment.model in models)
    return frozenset({deployment.name, deployment.model, deployment.provider or deployment.format, *groups})


def _unpriced(one: _Deployed, cost: Cost | None) -> Iterator[str]:
    """Yield a reason if the deployment has a budget but no price."""
    if cost is None and any(endpoint.budget_usd is not None for endpoint in one.endpoints):
        yield "its price is not known, and its key has a budget: add price"


def endpoint_of(deployment: Deployment, credential: str | None, config: Config) -> Endpoint:
    """Return the endpoint of a deployment and one of its credentials."""
    limits = deployment.limits
    budget = None if credential is None else config.budgets.get(credential)
    origin = None if credential is None else _origin(deployment.base_url)
    return Endpoint(deployment.name, credential, limits.rpm, limits.tpm, limits.parallel, budget, origin)


def _origin(address: str) -> str:
    """Return the origin of an address: scheme, host and port (RFC 6454)."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _nobody(names: Sequence[str], refused: list[tuple[Deployment, str, bool]], known: Iterable[str]) -> DispatchError:
    if not names:
        return NoDeploymentError("no model to call: the category and the fallback name none")
    wanted = ", ".join(f'"{name}"' for name in names)
    if not refused:
        meant = did_you_mean(names[0], known)
        return NoDeploymentError(
            f"no deployment of {wanted}: {meant and meant + ' Else '}add one under deployments in semroute.yaml "
            f'(name, model: {names[0]}, base_url, api_key_env); "semroute init" writes a file to start from'
        )
    reasons = "; ".join(f"{deployment.name}: {why}" for deployment, why, _ in refused)
    only = refused[0][0].name if len(refused) == 1 else None
    kind = CapabilityError if all(lacks for _, _, lacks in refused) else NoDeploymentError
    return kind(f"no deployment of {wanted} can be called ({reasons})", deployment=only)


# Estimates of a call, without making one.

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
    mean. Redis samples by the same probabilities, see ``resilience/redis/lua/sample.lua``.
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

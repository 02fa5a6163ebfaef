"""Dispatch plan: candidate endpoints by constraints and capabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

from semroute.catalog import Needs, estimated_cost, fits, model_card, needs_of, price_of, strength
from semroute.config import Config, Deployment
from semroute.dispatch.constraints import Constraints
from semroute.errors import CapabilityError, DispatchError, NoDeploymentError
from semroute.providers import CallTarget
from semroute.text.names import did_you_mean, known_names
from semroute.types import Cost, Endpoint, EndpointStatus, Request


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

    def plan(self, request: Request, candidates: Sequence[str], constraints: Constraints) -> DispatchPlan:
        """Return the dispatch plan of a request.

        Raises:
            NoDeploymentError: no deployment may answer; the message gives the reason for each.
            CapabilityError: there are deployments, but none of them can do what the request needs.
        """
        names = self._names(candidates, constraints)
        needs = needs_of(request, constraints.wants)
        stages, refused = [], list[tuple[Deployment, str, bool]]()
        for name in names:
            found = self._by_name.get(name, ())
            stage = tuple(
                candidate for one in found for candidate in self._candidates(one, needs, constraints, refused)
            )
            if stage:
                stages.append(stage)
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

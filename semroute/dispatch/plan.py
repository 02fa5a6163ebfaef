"""Which places may answer a request: the candidates' deployments, less those that cannot or must not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from semroute.catalog import Needs, estimated_cost, fits, model_card, needs_of, price_of, strength
from semroute.config import Config, Deployment
from semroute.dispatch.constraints import Constraints
from semroute.errors import CapabilityError, DispatchError, NoDeploymentError
from semroute.providers import CallTarget
from semroute.text.names import did_you_mean, known_names
from semroute.types import Cost, Endpoint, Request

# What one request asks of the places that may answer it.


class Option(NamedTuple):
    """A place that may answer; a tuple, because one is made for each place and call.

    Attributes:
        target: deployment and credential.
        place: the same as the gates count it.
        usd: what the request is expected to cost there with the longest answer; None where no price is known.
        strength: how well the model does what the request needs, 0 to 1.
    """

    target: CallTarget
    place: Endpoint
    usd: float | None
    strength: float

    @property
    def deployment(self) -> Deployment:
        return self.target.deployment


@dataclass(frozen=True, slots=True)
class Stage:
    """One candidate of the decision, and its places; the next stage is for when none of them answers."""

    candidate: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class DispatchPlan:
    """The stages in order, none of them empty, what the request needs, and what its attempts may cost together, USD."""

    stages: tuple[Stage, ...]
    needs: Needs
    total_usd: float | None = None

    @property
    def tokens(self) -> int:
        """What a call reserves: input and longest answer."""
        return self.needs.tokens

    @property
    def options(self) -> list[Option]:
        """All places of all stages."""
        return [option for stage in self.stages for option in stage.options]


@dataclass(frozen=True, slots=True)
class _Seat:
    """A deployment with what the configuration fixes of it: its places, one for each credential."""

    deployment: Deployment
    places: tuple[Endpoint, ...]
    names: frozenset[str]


class Planner:
    """Lays out who may answer a request.

    Args:
        config: where models can be called.
        env: where keys are read, at each call, so that they can be replaced.
    """

    def __init__(self, config: Config, env: Mapping[str, str]) -> None:
        self._config = config
        self._env = env
        self._seats = {
            deployment.name: _Seat(
                deployment,
                tuple(endpoint_of(deployment, variable, config) for variable in deployment.api_key_env or (None,)),
                _names_of(deployment, config),
            )
            for deployment in config.deployments
        }
        self._by_candidate: dict[str, tuple[_Seat, ...]] = {
            name: tuple(self._seats[deployment.name] for deployment in config.deployments_of(name))
            for name in (*config.groups, *dict.fromkeys(deployment.model for deployment in config.deployments))
        }

    def know_models(self) -> None:
        """Look every deployment's model up once: the first look at the price list takes a third of a second."""
        for seat in self._seats.values():
            model_card(seat.deployment.model, self._config)
            price_of(seat.deployment, self._config)

    def plan(self, request: Request, candidates: Sequence[str], constraints: Constraints) -> DispatchPlan:
        """The stages of a request.

        Raises:
            NoDeploymentError: nobody may answer; the message says why of each deployment.
            CapabilityError: there are deployments, but none of them can do what the request needs.
        """
        names = self._names(candidates, constraints)
        needs = needs_of(request, constraints.wants)
        stages, refused = [], list[tuple[Deployment, str, bool]]()
        for name in names:
            options: list[Option] = []
            for seat in self._by_candidate.get(name, ()):
                options += self._options(seat, needs, constraints, refused)
            if options:
                stages.append(Stage(name, tuple(options)))
        if not stages:
            raise _nobody(names, refused, self._by_candidate)
        return DispatchPlan(tuple(stages), needs, constraints.total_usd)

    def _names(self, candidates: Sequence[str], constraints: Constraints) -> tuple[str, ...]:
        """The candidates, or those that the request pins.

        Raises:
            NoDeploymentError: it pins a deployment that there is not.
        """
        if constraints.model is not None:
            return (constraints.model,)
        if constraints.deployment is None:
            return tuple(dict.fromkeys(candidates))
        seat = self._seats.get(constraints.deployment)
        if seat is None:
            known = known_names(constraints.deployment, self._seats, "there are")
            message = f'no deployment is named "{constraints.deployment}"; {known}'
            raise NoDeploymentError(message, deployment=constraints.deployment)
        return (seat.deployment.model,)

    def _options(
        self, seat: _Seat, needs: Needs, constraints: Constraints, refused: list[tuple[Deployment, str, bool]]
    ) -> Iterator[Option]:
        """The places of a deployment; where there are none, why is added to ``refused``."""
        deployment = seat.deployment
        cost = estimated_cost(deployment, self._config, needs.input_tokens, needs.output_tokens)
        lacking = fits(deployment, self._config, needs)
        reasons = (*constraints.against(deployment, cost, seat.names), *_unpriced(seat, cost), *lacking)
        if reasons:
            refused.append((deployment, "; ".join(reasons), len(reasons) == len(lacking)))
            return
        usd, how_strong = None if cost is None else cost.usd, strength(deployment, self._config, needs)
        has_key = False
        for place in seat.places:
            key = None if place.credential is None else self._env.get(place.credential, "").strip()
            if key != "":
                has_key = True
                yield Option(CallTarget(deployment, place.credential, key), place, usd, how_strong)
        if not has_key:
            wanted = " or ".join(deployment.api_key_env)
            refused.append((deployment, f"it needs a key: export {wanted} (deployments, api_key_env)", False))


def _names_of(deployment: Deployment, config: Config) -> frozenset[str]:
    """What allow and deny lists may call a deployment by."""
    groups = (group for group, models in config.groups.items() if deployment.model in models)
    return frozenset({deployment.name, deployment.model, deployment.provider or deployment.format, *groups})


def _unpriced(seat: _Seat, cost: Cost | None) -> Iterator[str]:
    """A budget cannot be kept where calls have no price."""
    if cost is None and any(place.budget_usd is not None for place in seat.places):
        yield "its price is not known, and its key has a budget: add price"


def endpoint_of(deployment: Deployment, credential: str | None, config: Config) -> Endpoint:
    """A deployment with one of its credentials, as the gates count it."""
    limits = deployment.limits
    budget = None if credential is None else config.budgets.get(credential)
    origin = None if credential is None else _origin(deployment.base_url)
    return Endpoint(deployment.name, credential, limits.rpm, limits.tpm, limits.parallel, budget, origin)


def _origin(address: str) -> str:
    """Scheme, host and port of an address (RFC 6454)."""
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

"""What a wire format cannot carry: the last guard, for what the choice of a deployment has let through."""

from __future__ import annotations

from collections.abc import Mapping

from semroute.catalog import Parameters, capabilities_of, carried, parameters_of, unsaid
from semroute.errors import CapabilityError, RequestError
from semroute.providers.target import CallTarget
from semroute.types import Request


def lacks(target: CallTarget, request: Request) -> tuple[str, ...]:
    """What the request needs that the vendor's row says its wire cannot carry, in alphabetical order."""
    deployment = target.deployment
    return tuple(sorted(capabilities_of(request) & (deployment.vendor.lacks | set(deployment.lacks))))


def parameters(target: CallTarget, request: Request, *, stream: bool) -> Parameters:
    """Return the parameters to send.

    Raises:
        CapabilityError: the deployment cannot say one of them, and the request does not allow to leave it out.
        RequestError: ``extra`` names what a field of the request says.
    """
    name = target.deployment.name
    try:
        asked = parameters_of(request)
    except RequestError as error:
        raise RequestError(f"{name}: {error}", deployment=name) from None
    if reasons := unsaid(target.deployment, asked):
        raise CapabilityError(f"{name}: {'; '.join(reasons)}", deployment=name)
    found = carried(target.deployment, asked)
    if stream and "n" in found.named:
        message = f"{name}: a stream gives one answer; ask for n={request.n} without streaming"
        raise CapabilityError(message, deployment=name)
    return found


def add_extra(body: dict[str, object], extra: Mapping[str, object], target: CallTarget) -> None:
    """Add parameters of the wire format to a body.

    Raises:
        RequestError: the request says one of them with a field of its own.
    """
    if taken := sorted(body.keys() & extra.keys()):
        name = target.deployment.name
        message = f"{name}: extra names {', '.join(taken)}, which another field of the request says already"
        raise RequestError(message, deployment=name)
    body |= extra

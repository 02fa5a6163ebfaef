"""What a wire format cannot carry: the last guard, for what the choice of a deployment has let through."""

from __future__ import annotations

from semroute.catalog import capabilities_of
from semroute.providers.target import Target
from semroute.types import Request


def lacks(target: Target, request: Request) -> tuple[str, ...]:
    """What the request needs that the vendor's row says its wire cannot carry, in alphabetical order."""
    return tuple(sorted(capabilities_of(request) & target.deployment.vendor.lacks))

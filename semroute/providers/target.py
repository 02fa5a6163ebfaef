"""Target of one call: a deployment and a key."""

from __future__ import annotations

from dataclasses import dataclass, field

from semroute.config import Deployment


@dataclass(frozen=True, slots=True)
class CallTarget:
    """Target of one call: a deployment with one of its credentials.

    Attributes:
        deployment: deployment to call.
        credential: environment variable of the key; None if no key is needed.
        key: the key itself; never shown.
    """

    deployment: Deployment
    credential: str | None = None
    key: str | None = field(default=None, repr=False)

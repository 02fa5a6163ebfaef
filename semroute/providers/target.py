"""Where one call goes, and with which key."""

from __future__ import annotations

from dataclasses import dataclass, field

from semroute.config import Deployment


@dataclass(frozen=True, slots=True)
class CallTarget:
    """A deployment with one of its credentials.

    Attributes:
        deployment: where to call.
        credential: environment variable of the key; None where no key is wanted.
        key: the key itself; never shown.
    """

    deployment: Deployment
    credential: str | None = None
    key: str | None = field(default=None, repr=False)

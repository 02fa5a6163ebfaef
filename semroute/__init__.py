"""Route each query to the cheapest language model that can handle it.

from semroute import Router, route

route("what is the capital gains rate on shares held for a year?").model
Router.load(".semroute/index").route_many(["hello", "def f(x): ..."])

The names in ``__all__`` are the public interface; everything else may change with any release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semroute.config import Config, load_config
    from semroute.dispatch import Constraints
    from semroute.errors import (
        AllClosedError,
        ArtifactBusyError,
        ArtifactError,
        AuthenticationError,
        BrokenStreamError,
        CapabilityError,
        ConfigError,
        ContentFilterError,
        ContextLengthError,
        DataError,
        DeadlineError,
        DispatchError,
        EmptyAnswerError,
        EncoderError,
        InputError,
        MalformedResponseError,
        MissingExtraError,
        NoDeploymentError,
        OverloadedError,
        PluginError,
        ProviderTimeoutError,
        QueryError,
        QuotaError,
        RateLimitError,
        RequestError,
        SemrouteError,
        StateError,
        UnavailableError,
    )
    from semroute.router import Router, route
    from semroute.types import Completion, Decision, Delta, Message, Request, Tool

__version__ = "0.1.0"
__all__ = [
    "AllClosedError",
    "ArtifactBusyError",
    "ArtifactError",
    "AuthenticationError",
    "BrokenStreamError",
    "CapabilityError",
    "Completion",
    "Config",
    "ConfigError",
    "Constraints",
    "ContentFilterError",
    "ContextLengthError",
    "DataError",
    "DeadlineError",
    "Decision",
    "Delta",
    "DispatchError",
    "EmptyAnswerError",
    "EncoderError",
    "InputError",
    "MalformedResponseError",
    "Message",
    "MissingExtraError",
    "NoDeploymentError",
    "OverloadedError",
    "PluginError",
    "ProviderTimeoutError",
    "QueryError",
    "QuotaError",
    "RateLimitError",
    "Request",
    "RequestError",
    "Router",
    "SemrouteError",
    "StateError",
    "Tool",
    "UnavailableError",
    "__version__",
    "load_config",
    "route",
]

_HOMES = {
    "Completion": "semroute.types",
    "Config": "semroute.config",
    "Constraints": "semroute.dispatch",
    "Decision": "semroute.types",
    "Delta": "semroute.types",
    "Message": "semroute.types",
    "Request": "semroute.types",
    "Router": "semroute.router",
    "Tool": "semroute.types",
    "load_config": "semroute.config",
    "route": "semroute.router",
}
"""Module of each name that is not an error."""


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import semroute` costs next to nothing.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_HOMES.get(name, "semroute.errors")), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)

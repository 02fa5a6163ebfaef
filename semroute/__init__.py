"""Route each query to the cheapest language model that can handle it.

from semroute import Router, route

route("what is the capital gains rate on shares held for a year?").model
Router.load(".semroute/index").route_many(["hello", "def f(x): ..."])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semroute.router import Router, route
    from semroute.types import Completion, Decision

__version__ = "0.1.0"
__all__ = ["Completion", "Decision", "Router", "__version__", "route"]

_HOMES = {
    "Completion": "semroute.types",
    "Decision": "semroute.types",
    "Router": "semroute.router",
    "route": "semroute.router",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import semroute` costs next to nothing.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

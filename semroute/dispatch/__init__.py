"""From a decision's candidate models to a completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semroute.dispatch.constraints import Constraints

if TYPE_CHECKING:
    from semroute.dispatch.dispatcher import Dispatcher

__all__ = ["Constraints", "Dispatcher"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a decision needs the limits of a request, and neither HTTP nor wire formats.
    if name != "Dispatcher":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from semroute.dispatch.dispatcher import Dispatcher

    return Dispatcher


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

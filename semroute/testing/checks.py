"""Refusing wrong requests: what the three wire formats check in the same way."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from semroute.testing.neutral import Failure

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")


class RefusedError(Exception):
    """A request that the server does not take, with the error that it answers."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def need(condition: object, message: str, param: str | None = None, *, status: int = 400) -> None:
    """Refuse the request unless the condition holds.

    Raises:
        RefusedError: with this message, and the parameter's name.
    """
    if not condition:
        raise RefusedError(Failure(status, message, param=param))


def whole(value: object, low: int, high: int | None = None) -> bool:
    """Whether a value is a whole number within bounds; ``True`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high)


def within(value: object, low: float, high: float) -> bool:
    """Whether a value is a number within bounds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def texts(value: object) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def unknown(body: Mapping[str, Any], known: Collection[str]) -> str | None:
    """The first key of the body that the vendor does not know."""
    return next((name for name in body if name not in known), None)


def names(text: str) -> frozenset[str]:
    """The names in a text that lists them."""
    return frozenset(text.split())


def tool_name(value: object) -> bool:
    """Whether a value can name a tool."""
    return isinstance(value, str) and _TOOL_NAME.match(value) is not None

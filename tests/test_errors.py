from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from semroute import errors
from semroute.errors import (
    ConfigError,
    DataError,
    DispatchError,
    InputError,
    MissingExtraError,
    PluginError,
    ProviderTimeoutError,
    SemrouteError,
)
from semroute.types import Attempt, Cost, Usage


def tree(kind: type[SemrouteError] = SemrouteError) -> Iterator[type[SemrouteError]]:
    if kind.__module__.startswith("semroute."):
        yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def made(kind: type[SemrouteError]) -> SemrouteError:
    """An error with every argument that its constructor takes."""
    if issubclass(kind, MissingExtraError):
        return kind("a plot", "plot")
    if issubclass(kind, ConfigError):
        return kind("wrong", path=Path("a.yaml"), line=3, key="judge.model")
    if issubclass(kind, DataError):
        return kind("wrong", path="a.csv", line=3)
    if issubclass(kind, PluginError):
        return kind("wrong", kind="checks", name="polite", package="acme")
    if issubclass(kind, DispatchError):
        usage = Usage(3, 4, reasoning_tokens=1)
        error = kind("failed", deployment="spot", status=429, wait_s=2.5, usage=usage, is_charged=True)
        error.attempts = (Attempt("spot", "small", 12.0, 429, usage=usage, cost=Cost(0.1), score={"cost": 0.5}),)
        return error
    return kind("wrong")


def pickled(error: SemrouteError, protocol: int) -> Any:
    return pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - what was pickled a line ago


WAYS: dict[str, Callable[[SemrouteError], Any]] = {
    **{f"pickle {protocol}": lambda error, protocol=protocol: pickled(error, protocol) for protocol in (0, 2, 5)},  # type: ignore[misc]
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_survives_with_its_attributes(kind: type[SemrouteError], way: str) -> None:
    error = made(kind)
    error.add_note("seen on the way")
    error.is_cut_short = True  # type: ignore[attr-defined]
    found = WAYS[way](error)
    assert type(found) is kind
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
    assert repr(found) == repr(error)
    assert found.__notes__ == ["seen on the way"]
    for name in ("is_final", "exit_code", "msg", "strerror"):
        assert getattr(found, name, None) == getattr(error, name, None)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    drawn = (errors.__doc__ or "").partition("::")[2]
    for kind in tree():
        if kind.__module__ != errors.__name__:
            continue  # what a module tells itself apart by never leaves it
        assert f"{kind.__name__} " in drawn or f"{kind.__name__}\n" in drawn


def test_what_a_subclass_of_elsewhere_adds_survives_too() -> None:
    error = OwnError(3, reason="mine")
    for way in WAYS.values():
        found = way(error)
        assert (str(found), found.number, found.reason) == ("number 3", 3, "mine")


def test_an_error_that_came_from_another_process_can_be_raised() -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "semroute-router\[plot\]"') as caught:
        raise pickled(MissingExtraError("a plot", "plot"), 5)
    assert caught.value.extra == "plot"
    assert isinstance(caught.value, ImportError)
    timeout = pickled(ProviderTimeoutError("late"), 5)
    assert timeout.is_cut_short is False
    assert timeout.attempts == ()


class OwnError(InputError):
    """With a constructor of its own, as an extension may have."""

    def __init__(self, number: int, *, reason: str) -> None:
        self.number, self.reason = number, reason
        super().__init__(f"number {number}")

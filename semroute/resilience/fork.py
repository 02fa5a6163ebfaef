"""State of gates in a forked child: what runs in the parent is not the child's, nor are its locks and sockets."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet

_known: WeakSet[Forkable] = WeakSet()
_inherited: list[object] = []


class Forkable(Protocol):
    """State that has to change in a forked child."""

    def _after_fork(self) -> None: ...


def after_fork(state: Forkable) -> None:
    """Call ``_after_fork`` of this object in every child that is forked off, before anything else runs there."""
    _watch_forks()
    _known.add(state)


def keep_inherited(*things: object) -> None:
    """Keep objects of the parent from being finalised in this process.

    Closing an inherited socket would take it off the parent's selector as well: a fork shares epoll descriptors.
    """
    _inherited.extend(things)


@cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_change_all)


def _change_all() -> None:
    for state in list(_known):
        state._after_fork()

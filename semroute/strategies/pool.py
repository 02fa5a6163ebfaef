"""Candidates as names of models and groups: what is left of a list when another one bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


class Pool:
    """Knows what the names stand for. A group that is left in part becomes the members that are left.

    Args:
        members: the models that a name stands for: a group's, or the model itself.
        names: every model and group that a query can go to, in a fixed order.
    """

    def __init__(self, members: Callable[[str], Sequence[str]], names: Iterable[str]) -> None:
        self._members = members
        self.names = tuple(dict.fromkeys(names))

    def models(self, names: Iterable[str]) -> tuple[str, ...]:
        """The models that ``names`` stand for, each once."""
        return tuple(dict.fromkeys(model for name in names for model in self._members(name)))

    def kept(self, names: Sequence[str], allowed: Sequence[str] | None) -> tuple[str, ...]:
        """What of ``names`` is among ``allowed``, in the order of ``names``; all of it where ``allowed`` is None."""
        if allowed is None:
            return tuple(names)
        models = set(self.models(allowed))
        return self._left(names, lambda model: model in models)

    def without(self, names: Sequence[str], excluded: Sequence[str]) -> tuple[str, ...]:
        """What of ``names`` is not among ``excluded``, in the order of ``names``."""
        models = set(self.models(excluded))
        return self._left(names, lambda model: model not in models)

    def _left(self, names: Sequence[str], is_left: Callable[[str], bool]) -> tuple[str, ...]:
        found: list[str] = []
        for name in names:
            members = self._members(name)
            left = [model for model in members if is_left(model)]
            found += [name] if len(left) == len(members) else left
        return tuple(dict.fromkeys(found))

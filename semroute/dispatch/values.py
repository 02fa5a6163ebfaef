"""Plain values: bounded check of a caller's data, with paths of errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import islice
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeVar, cast

from semroute.errors import InputError
from semroute.text.conversation import fields_of

MAX_DEPTH = 100
"""Levels of nesting. Vendors accept schemas of 5 to 10 levels, and JSON parsers between the caller and a model commonly
stop at 64 to 128; Python's own ``json``, ``copy`` and ``jsonschema`` recurse, and are safe at this depth."""

MAX_VALUES = 500_000
"""Values in one request, counted at each occurrence, as in serialised form: a shared list counts every time, and a
structure that contains itself is too large. A pass over this many takes about 0.1 s."""

MAX_BYTES = 64 * 2**20
"""UTF-8 bytes of all texts of one request. The largest request that a vendor accepts is 50 MB (OpenAI, with images)."""

MAX_INTEGER = 2**64
"""Largest magnitude of an integer in a message or a schema. JSON parsers of other languages lose precision below it,
and Python refuses to write an integer of more than 4,300 digits."""

SHOWN = 40
"""Characters of a key that a path in an error message repeats."""

Field: TypeAlias = "Callable[[ValueWalk, Any], object]"
_E = TypeVar("_E", bound=InputError)
_T = TypeVar("_T")


class FaultError(Exception):
    """An invalid value, with its path from the inside out."""

    def __init__(self, found: str, *path: str | int) -> None:
        self.found = found
        self.path: list[str | int] = list(reversed(path))
        super().__init__(found)


class ValueWalk:
    """One pass over the values of one request, with the remaining bounds."""

    __slots__ = ("bytes", "values")

    def __init__(self) -> None:
        self.bytes = MAX_BYTES
        self.values = MAX_VALUES

    def plain(self, value: object, depth: int = 0) -> object:
        """Return ``value`` if it is plain JSON, else a converted copy."""
        kind = type(value)
        if kind is str:
            text = cast(str, value)
            self.bytes -= len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            if self.bytes < 0:
                raise FaultError(f"is too long: all texts together may have {MAX_BYTES // 2**20} MiB")
            return value
        if value is None or kind is bool:
            return value
        if kind is dict:
            return self._mapping(cast("dict[object, object]", value), depth)
        if kind is list or kind is tuple:
            return self._items(cast("list[object] | tuple[object, ...]", value), depth)
        if kind is int:
            if not -MAX_INTEGER <= cast(int, value) <= MAX_INTEGER:
                raise FaultError("is an integer of more than 64 bits; write it as text")
            return value
        if kind is float:
            if not math.isfinite(cast(float, value)):
                raise FaultError(f"is {value}, which JSON cannot say; leave it out, or write it as text")
            return value
        return self.plain(self._converted(value, kind), depth)

    def _mapping(self, value: dict[object, object], depth: int) -> object:
        self._enter(len(value), depth)
        changed: dict[object, object] | None = None
        for key, item in value.items():
            if type(key) is not str:
                raise FaultError(f"has a key that is {type_name(key)}; keys are text")
            self.bytes -= len(key)
            try:
                plain = self.plain(item, depth + 1)
            except FaultError as fault:
                fault.path.append(key)
                raise
            if plain is not item:
                changed = dict(value) if changed is None else changed
                changed[key] = plain
        return value if changed is None else changed

    def _items(self, value: list[object] | tuple[object, ...], depth: int) -> object:
        self._enter(len(value), depth)
        changed: list[object] | None = None
        for place, item in enumerate(value):
            try:
                plain = self.plain(item, depth + 1)
            except FaultError as fault:
                fault.path.append(place)
                raise
            if plain is not item:
                changed = list(value) if changed is None else changed
                changed[place] = plain
        return value if changed is None else changed

    def _enter(self, count: int, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise FaultError(f"is nested more than {MAX_DEPTH} levels deep, or contains itself; make it flatter")
        self.count(count)

    def count(self, values: int) -> None:
        """Count ``values`` more values against the bound."""
        self.values -= values
        if self.values < 0:
            raise FaultError(f"brings the request to more than {MAX_VALUES:,} values; send less at once")

    def _converted(self, value: Any, kind: type) -> object:
        """Convert a value of another type to the plain value it represents."""
        if issubclass(kind, str):
            return str.__str__(value)
        if issubclass(kind, Integral):
            return read_value(lambda: int(value), kind.__name__)
        if issubclass(kind, Real):
            return read_value(lambda: float(value), kind.__name__)
        if issubclass(kind, Mapping):
            return self._copied(value, kind)
        if issubclass(kind, Sequence) and not issubclass(kind, bytes | bytearray | memoryview):
            return read_value(lambda: list(islice(value, self.values + 1)), kind.__name__)
        # An SDK's message, and the tool calls in it, are pydantic models, dataclasses or the like.
        if not issubclass(kind, type) and (found := read_value(lambda: fields_of(value), kind.__name__)) is not None:
            return self._copied(found, kind)
        raise FaultError(f"is {kind.__name__}, which JSON cannot say{_remedy(kind)}")

    def _copied(self, value: Any, kind: type) -> dict[object, object]:
        """Return a mapping of any type as a dict, with converted keys."""

        def copy() -> dict[object, object]:
            keys = list(islice(iter(value), self.values + 1))
            return {str.__str__(key) if issubclass(type(key), str) else key: value[key] for key in keys}

        if kind is dict:
            return cast("dict[object, object]", value)
        return read_value(copy, kind.__name__)


def checked(walk: ValueWalk, key: str | int, value: object, check: Field) -> object:
    """Return the checked value; a fault in it gets the value's key."""
    try:
        return check(walk, value)
    except FaultError as fault:
        fault.path.append(key)
        raise


def read_value(read: Callable[[], _T], what: str) -> _T:
    """Run code of the caller's own types; report its exceptions as faults."""
    try:
        return read()
    except Exception as error:
        raise FaultError(f"is {what}, and cannot be read: {type(error).__name__}") from None


def error_of(fault: FaultError, kind: type[_E]) -> _E:
    path = ""
    for key in reversed(fault.path):
        if isinstance(key, int):
            path += f"[{key}]"
        elif key.isascii() and key.replace(".", "_").isidentifier():
            path += f".{key[:SHOWN]}" if path else key[:SHOWN]
        else:
            path += f"[{key[:SHOWN]!a}]"
    return kind(f"{path}: {fault.found}" if path else fault.found)


def type_name(value: object) -> str:
    return type(value).__name__


def _remedy(kind: type) -> str:
    if issubclass(kind, bytes | bytearray | memoryview):
        return "; decode it, or give an image as a data: URL"
    return "; make a list of it" if issubclass(kind, Set) else ""

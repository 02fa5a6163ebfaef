"""Conversion of values to JSON-ready ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import PurePath


def json_object(value: Mapping[str, object]) -> dict[str, object]:
    """Return a mapping as :func:`json_ready` does."""
    return {str(key): json_ready(item) for key, item in value.items()}


def json_fields(value: object) -> dict[str, object]:
    """Return the fields of a dataclass as :func:`json_ready` does."""
    return {field.name: json_ready(getattr(value, field.name)) for field in fields(value)}  # type: ignore[arg-type]


def json_ready(value: object) -> object:
    """Return a value as dicts, lists, strings, numbers, booleans and None.

    ``json.dumps(…, allow_nan=False)`` takes the result: numbers that JSON has no word for (NaN, infinity) become None.
    An object with a ``to_dict`` is what that returns, another dataclass the dict of its fields.
    """
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    own = getattr(type(value), "to_dict", None)
    if own is not None:
        return own(value)
    if is_dataclass(value):
        return json_fields(value)
    if isinstance(value, Mapping):
        return json_object(value)
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return [json_ready(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")

"""Results as values that JSON knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict


def plain(value: object) -> object:
    """Tuples as lists, dataclasses as dicts, all the way down."""
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)  # type: ignore[call-overload]
    return value


def finite(value: object) -> object:
    """The same with None in place of NaN and infinity, which are no JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value

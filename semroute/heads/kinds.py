"""What a value of a manifest must be: people edit JSON, and tools write it anew."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MOST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        name: for people, such as "a list of texts".
        fits: whether a value is one.
    """

    name: str
    fits: Callable[[Any], bool]

    def problem(self, key: str, value: object) -> str | None:
        """What is wrong with the value of a key; None where it is of this kind."""
        if self.fits(value):
            return None
        said = json.dumps(value)
        said = said if len(said) <= _MOST_SHOWN else f"{said[:_MOST_SHOWN]}…"
        return f'"{key}" must be {self.name}, not {said}'


def _is_number(value: Any) -> bool:
    # JSON as Python reads it may hold NaN, infinity, and whole numbers that are too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


TEXT = Kind("text", lambda value: isinstance(value, str))
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
NUMBER = Kind("a number", _is_number)
SHARE = Kind("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
WORTH = Kind("a number from 0, or null", lambda value: value is None or (_is_number(value) and value >= 0))

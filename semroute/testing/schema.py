"""The smallest value that a JSON schema allows (https://json-schema.org/draft/2020-12).

It is the honest answer where a structured one is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semroute.testing.checks import RefusedError
from semroute.testing.neutral import Failure

_DEEPEST = 16
_LONGEST = 100
_MOST_VALUES = 10_000
"""Values of an instance: a schema of a few lines can ask for 100^16."""
_MOST_CHARACTERS = 100_000
"""Of one text."""
_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "a@example.com",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "duration": "PT0S",
    "hostname": "example.com",
}


def instance(schema: Mapping[str, Any], number: int | None = None) -> Any:
    """A value that the schema allows.

    With a ``number`` each number of the value, and each choice that has it, is this one where the schema allows it.

    It knows types, ``enum``, ``const``, ``$ref`` within the schema, ``anyOf``, ``oneOf``, ``allOf``, required and
    strict properties, lengths and bounds; of patterns it knows nothing. Gemini's upper-case types are understood.

    Raises:
        RefusedError: it is no schema.
    """
    try:
        return _value(schema, _Root(schema, number), 0)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
        raise RefusedError(Failure(400, "Invalid schema: it is not a JSON schema that can be followed.")) from None


@dataclass(slots=True)
class _Root:
    """The whole schema, the number that is wanted, and the values that an instance of it may still have."""

    schema: Mapping[str, Any]
    number: int | None = None
    left: int = _MOST_VALUES

    def count(self) -> None:
        """Count a value.

        Raises:
            RefusedError: there are too many.
        """
        self.left -= 1
        if self.left < 0:
            raise RefusedError(Failure(400, f"Invalid schema: its smallest value has over {_MOST_VALUES:,} parts."))


def _value(schema: Any, root: _Root, depth: int) -> Any:
    root.count()
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _value(_referred(str(schema["$ref"]), root.schema), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        wanted = (choice for choice in schema["enum"] if root.number is not None and str(choice) == str(root.number))
        return next(wanted, schema["enum"][0])
    for choice in ("anyOf", "any_of", "oneOf"):
        if schema.get(choice):
            return _value(_simplest(schema[choice], depth), root, depth + 1)
    if schema.get("allOf"):
        return _value(_merged(schema, root.schema), root, depth + 1)
    return _typed(schema, root, depth)


def _typed(schema: Mapping[str, Any], root: _Root, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    kind = str(kind).lower() if kind else "object" if "properties" in schema else "null"
    if kind == "object":
        properties = schema.get("properties") or {}
        wanted = schema.get("required", ())
        return {name: _value(properties.get(name, {}), root, depth + 1) for name in wanted}
    if kind == "array":
        length = min(int(schema.get("minItems", schema.get("min_items", 0)) or 0), _LONGEST)
        return [_value(schema.get("items", {}), root, depth + 1) for _ in range(length)]
    if kind in ("number", "integer"):
        if root.number is not None and _allows(schema, root.number):
            return root.number
        return _number(schema, whole=kind == "integer")
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "text")
        return text.ljust(min(int(schema.get("minLength", 0)), _MOST_CHARACTERS), "x")[: schema.get("maxLength")]
    return False if kind == "boolean" else None


def _allows(schema: Mapping[str, Any], number: int) -> bool:
    step = schema.get("multipleOf")
    return (
        schema.get("minimum", number) <= number <= schema.get("maximum", number)
        and schema.get("exclusiveMinimum", number - 1) < number < schema.get("exclusiveMaximum", number + 1)
        and not (step and number % step)
    )


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = schema.get("multipleOf") or (1 if whole else None)
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None:
        low = above + (step or ((below if below is not None else above + 2) - above) / 2)
    if below is not None and high is None:
        high = below - (step or 1)
    value = low if low is not None and low > 0 else 0
    if high is not None and high < value:
        value = high if low is None else low
    elif low is not None and low > value:
        value = low
    if step:
        value = step * math.ceil(value / step) if value > 0 or low is not None else step * math.floor(value / step)
    return int(value) if whole else value


def _simplest(options: Any, depth: int) -> Any:
    """The first option; deep down one that leads no deeper, so that a recursive schema ends."""
    flat = [option for option in options if isinstance(option, Mapping) and "$ref" not in option]
    return flat[-1] if depth > 4 and flat else options[0]


def _merged(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        part = _referred(str(part["$ref"]), root) if "$ref" in part else part
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        required = [*merged.get("required", ()), *part.get("required", ())]
        merged = {**merged, **part}
        if properties:
            merged |= {"properties": properties, "required": required}
    return merged


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        name = name.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) and name else found
    return found

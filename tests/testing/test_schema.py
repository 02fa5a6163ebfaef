from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.testing.answers import RefusedError, instance

NAMES = [f"p{n}" for n in range(30)]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "format": "date"}, "2025-01-01"),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["integer", "null"]}, 0),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "integer", "maximum": -7, "multipleOf": 5}, -10),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 3}, 3),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 0),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "text"}),
        ({"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}, "required": ["a"]}, {"a": 0}),
        (
            {"allOf": [{"$ref": "#/$defs/A"}, {"required": ["b"], "properties": {"b": {"type": "null"}}}],
             "$defs": {"A": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}}},
            {"a": 0, "b": None},
        ),
        ({}, None),
    ],
)  # fmt: skip
def test_an_instance_is_small_and_fits(schema: dict[str, Any], value: object) -> None:
    assert instance(schema) == value


def test_a_recursive_schema_ends() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
        "required": ["next"],
    }
    value, depth = instance({"$ref": "#/$defs/Node", "$defs": {"Node": node}}), 0
    while value is not None:
        value, depth = value["next"], depth + 1
    assert 0 < depth < 10


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 100, "items": {"$ref": "#"}},
        {"type": "object", "properties": {name: {"$ref": "#"} for name in NAMES}, "required": NAMES},
    ],
)  # fmt: skip
def test_a_schema_that_asks_for_more_values_than_a_server_has_time_for_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        instance(schema)


def test_a_text_is_not_made_as_long_as_a_schema_likes() -> None:
    assert len(instance({"type": "string", "minLength": 10**12})) == 100_000


@pytest.mark.slow
@given(st.integers(-1000, 1000), st.integers(0, 1000), st.sampled_from(["integer", "number"]))
def test_a_number_is_within_its_bounds(low: int, width: int, kind: str) -> None:
    value = instance({"type": kind, "minimum": low, "maximum": low + width})
    assert low <= value <= low + width

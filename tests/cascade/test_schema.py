"""A caller's schema is not trusted: it reaches no network, and takes bounded time off the event loop."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from semroute.cascade import format
from semroute.cascade.checks import UncheckableError
from semroute.cascade.format import find_fault, schema_fault
from semroute.testing import FakeProvider, answer
from semroute.types import Request

LETTERS = "a" * 28 + "!"
"""Takes Python's own matcher half a minute with the pattern below."""
BACKTRACKS = "^(a+)+$"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def doubling(levels: int, **each: Any) -> dict[str, Any]:
    """A schema of ``levels`` lines that asks for 2^levels applications."""
    steps = {f"s{n}": {**each, "allOf": [{"$ref": f"#/$defs/s{n - 1}"}] * 2} for n in range(1, levels + 1)}
    return {"$defs": {"s0": {"type": "object"}, **steps}, "$ref": f"#/$defs/s{levels}"}


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"allOf": [found]}
    return found


@pytest.fixture
def listener() -> Iterator[tuple[str, list[object]]]:
    """An address, and who has connected to it."""
    seen: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                seen.append(peer)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/schema.json", seen
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "made",
    [
        lambda url: {"$ref": url},
        lambda url: {"$dynamicRef": url},
        lambda url: {"$id": url, "$ref": "other.json"},
        lambda url: {"$schema": url, "type": "string"},
        lambda url: {"allOf": [{"$id": url, "properties": {"a": {"$ref": "other.json#/x"}}}]},
        lambda url: {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": url},
        lambda url: {"$schema": "http://json-schema.org/draft-03/schema#", "extends": {"$ref": url}},
        lambda url: {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": url},
        lambda url: {"properties": {"a": {}}, "allOf": [{"$ref": url}], "unevaluatedProperties": False},
        lambda url: {"$ref": "file:///etc/hostname"},
    ],
)
def test_nothing_is_retrieved(made: Any, listener: tuple[str, list[object]]) -> None:
    url, seen = listener
    with suppress(UncheckableError):
        find_fault('{"a": 1}', made(url))
    assert seen == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/$defs/missing"}, "leads to nothing"),
        ({"$ref": "http://127.0.0.1:9/x"}, "leads to nothing"),
        ({"$ref": "#"}, "nested"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "nested"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}, "unevaluatedProperties": False}, "nested"),
        ({"$dynamicRef": "#x", "$dynamicAnchor": "x"}, "nested"),
        ({"type": "no such type"}, "invalid"),
        ({"required": "name"}, "invalid"),
        ({"$schema": "https://example.com/own-dialect"}, "dialect"),
        ({"$schema": ["x"]}, "cannot be applied"),
        (nested(5000), "levels"),
        ({"properties": {f"p{n}": {"type": "string"} for n in range(20_000)}}, "values"),
        ({"propertyNames": {"pattern": "^(?!x)"}}, "look-around"),
        ({"propertyNames": {"pattern": "("}}, "pattern"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "together"),
        (doubling(60), "work"),
        (doubling(60, **{"$schema": "http://json-schema.org/draft-07/schema#"}), "work"),
        ({**doubling(60), "unevaluatedProperties": False, "type": "object"}, "work"),
    ],
)
def test_what_cannot_be_checked_says_why(schema: Mapping[str, object], words: str) -> None:
    started = time.thread_time()
    with pytest.raises(UncheckableError, match=words):
        find_fault('{"a": 1}', schema)
    # Bounded in processor time, whatever else the machine does.
    assert time.thread_time() - started < 10 * format.MOST_CPU_S


def test_what_python_reads_beyond_json_and_what_it_cannot_read_are_told_apart() -> None:
    assert find_fault("[NaN]", {"type": "array"}) == "it is not JSON (NaN is no number of JSON)"
    assert find_fault("-Infinity", {}) == "it is not JSON (-Infinity is no number of JSON)"
    with pytest.raises(UncheckableError, match="too many digits"):
        find_fault("9" * 5000, {"type": "integer"})


@pytest.mark.parametrize(
    ("value", "schema", "rule"),
    [
        (LETTERS, {"pattern": BACKTRACKS}, "pattern"),
        ({LETTERS: 1}, {"patternProperties": {BACKTRACKS: False}}, None),
        ({"aa": 1}, {"patternProperties": {BACKTRACKS: False}}, ""),
        ({LETTERS: 1}, {"patternProperties": {BACKTRACKS: {}}, "additionalProperties": False}, "additionalProperties"),
        ({"aa": 1}, {"patternProperties": {BACKTRACKS: {}}, "additionalProperties": False}, None),
        ({"aa": 1}, {"additionalProperties": {"type": "string"}}, "type"),
        ({LETTERS: 1}, {"propertyNames": {"pattern": BACKTRACKS}}, "pattern"),
        (LETTERS, {"allOf": [{"$schema": DRAFT_7, "pattern": BACKTRACKS}]}, "pattern"),
        (LETTERS, {"$schema": "http://json-schema.org/draft-04/schema#", "pattern": BACKTRACKS}, "pattern"),
        ("é", {"pattern": "^\\u00e9$"}, None),
        ([1, 1.0], {"uniqueItems": True}, "uniqueItems"),
        ([1, True, "1", [1], {"a": 1}], {"uniqueItems": True}, None),
        ([{"a": 1, "b": [2]}, {"b": [2], "a": 1.0}], {"uniqueItems": True}, "uniqueItems"),
        ({"a": 1}, {"properties": {"b": {}}, "unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"type": 5}, {"$ref": "http://json-schema.org/draft-07/schema#"}, "anyOf"),
        ({"n": {"n": {"x": 1}}}, {"properties": {"n": {"$ref": "#"}}, "additionalProperties": False}, "additional"),
        (3, {"$schema": "http://json-schema.org/draft-03/schema#", "maximum": 2}, "maximum"),
    ],
)  # fmt: skip
def test_rules_are_kept_within_linear_time(value: object, schema: Mapping[str, object], rule: str | None) -> None:
    started = time.thread_time()
    fault = find_fault(json.dumps(value), schema)
    assert time.thread_time() - started < 10 * format.MOST_CPU_S
    assert (fault is None) == (rule is None)
    assert rule is None or f" breaks {rule}" in str(fault) or fault.endswith("breaks None)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "schema"),
    [
        (f"[{','.join(f'[{n}]' for n in range(100_000))}]", {"uniqueItems": True}),
        (f"[{'0,' * 300_000}0]", {"prefixItems": [{}], "unevaluatedItems": False}),
        (json.dumps({f"k{n}": 1 for n in range(20_000)}), {"patternProperties": {f"x{n}": {} for n in range(2000)}}),
        (json.dumps("x" * 900_000), {"anyOf": [{"maxLength": 1}] * 5000}),
        (f"[{'0,' * 300_000}0]", {"allOf": [{"contains": {"type": "string"}, "minContains": 0}] * 1000}),
        (json.dumps("x" * 2_000_000), {"type": "string"}),
    ],
)
def test_long_answers_take_bounded_work(
    text: str, schema: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_s = 10 * format.MOST_CPU_S
    monkeypatch.setattr(format, "MOST_CPU_S", 0.02)  # below what a fast machine takes for any of them
    started = time.thread_time()
    with pytest.raises(UncheckableError):
        find_fault(text, schema)
    assert time.thread_time() - started < bound_s


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "schema"), [("{}", doubling(60)), (json.dumps({LETTERS: 1}), {"patternProperties": {BACKTRACKS: {}}})]
)
def test_the_event_loop_goes_on_while_a_hostile_schema_is_checked(text: str, schema: Mapping[str, object]) -> None:
    async def check() -> int:
        ticks, checking = 0, asyncio.create_task(schema_fault(text, schema))
        while not checking.done():
            ticks += 1
            await asyncio.sleep(0)
        checking.exception()
        return ticks

    # A matcher or a loop that holds the interpreter gives one tick.
    assert asyncio.run(check()) > 3


def test_a_check_that_waits_too_long_for_others_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format, "MOST_WAIT_S", 0.01)
    asked = {"type": "object"}
    held = threading.Event()

    async def check() -> None:
        pool = format._workers._executor()
        busy = [pool.submit(held.wait) for _ in range(format.THREADS)]
        try:
            with pytest.raises(UncheckableError, match="too many"):
                await schema_fault("{}", asked)
        finally:
            held.set()
        assert all(one.result() for one in busy)

    asyncio.run(check())


@pytest.mark.slow
@pytest.mark.parametrize("tries", [{"$ref": "#/$defs/missing"}, doubling(60), {"type": "no such type"}])
def test_a_paid_answer_is_given_where_its_schema_cannot_be_checked(
    provider: FakeProvider, bench: Any, tries: Mapping[str, object]
) -> None:
    provider.always(answer('{"a": 1}'))
    asked = Request(({"role": "user", "content": "how many are there?"},), json_schema=tries)
    completion = bench.ask({"tiers": ["small", "large"]}, asked)
    assert (completion.text, completion.tier) == ('{"a": 1}', 0)
    (trial,) = completion.tiers
    assert trial.checks[0].skipped
    assert "schema cannot be checked" in trial.reason


def test_what_else_is_wrong_with_an_answer_is_found_beside_a_schema_that_cannot_be_checked(
    provider: FakeProvider, bench: Any
) -> None:
    provider.script(answer('{"a": 1}', finish="length"), answer('{"a": 2}'))
    asked = Request(({"role": "user", "content": "how many are there?"},), json_schema={"$ref": "#/none"})
    completion = bench.ask({"tiers": ["small", "large"]}, asked)
    assert [trial.accepted for trial in completion.tiers] == [False, True]

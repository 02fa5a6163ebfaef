from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.data.examples import Notes
from semroute.data.rows import json_rows

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def _read(*lines: str) -> tuple[list[tuple[int, dict[str, object]]], list[str]]:
    notes = Notes(Path("x.jsonl"))
    rows = list(json_rows(enumerate(lines, start=1), notes.problem))
    return rows, [str(problem) for problem in notes.problems]


@pytest.mark.slow
@given(st.lists(st.dictionaries(st.text(), _values, max_size=4), max_size=4), st.booleans())
def test_any_objects_are_read_back_unchanged(rows: list[dict[str, object]], ascii_only: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) + "\r\n" for row in rows]
    assert _read(*lines) == (list(enumerate(rows, start=1)), [])


def test_a_blank_line_is_skipped_and_numbering_stays_true() -> None:
    rows, problems = _read('{"query": "a"}\n', "\n", "  \r\n", '{"query": "b"}\n')
    assert rows == [(1, {"query": "a"}), (4, {"query": "b"})]
    assert problems == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": "a"', "x.jsonl:2: malformed JSON at column 14 (Expecting ',' delimiter)"),
        ('{"query": "a"\n', "x.jsonl:2: malformed JSON at column 14 (Expecting ',' delimiter)"),
        ('{"query": "a",\r\n', "x.jsonl:2: malformed JSON at column 15 (Expecting property name"),
        ('{"query": "a", "outcomes": {"m": {"qua\n', "x.jsonl:2: malformed JSON at column 35 (Unterminated string"),
        ('{"query": "a"} {"query": "b"}', "x.jsonl:2: malformed JSON at column 16 (Extra data)"),
        ('["a"]', "x.jsonl:2: is not a JSON object"),
        ('"a"', "x.jsonl:2: is not a JSON object"),
        ('{"query": "a", "query": "b"}', 'x.jsonl:2: malformed JSON: the key "query" is written twice'),
        ("[" * 100_000, "x.jsonl:2: malformed JSON: nested too deeply"),
        ("9" * 5000, "x.jsonl:2: malformed JSON: Exceeds the limit"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(line: str, message: str) -> None:
    rows, problems = _read('{"query": "a"}', line, '{"query": "b"}')
    assert [number for number, _ in rows] == [1, 3]
    assert len(problems) == 1
    assert problems[0].startswith(message)

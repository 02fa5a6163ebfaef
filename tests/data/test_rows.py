from __future__ import annotations

from pathlib import Path

import pytest

from semroute.data.examples import Notes
from semroute.data.rows import query_text


def _query(row: dict[str, object]) -> tuple[str | None, list[str]]:
    notes = Notes(Path("x.jsonl"))
    return query_text(row, 7, notes.problem), [str(problem) for problem in notes.problems]


def test_surrounding_whitespace_is_dropped_and_inner_kept() -> None:
    assert _query({"query": "\n  def f():\n    pass\n"}) == ("def f():\n    pass", [])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, 'x.jsonl:7: has no key "query" (its keys: "text")'),
        ({"query": None}, 'x.jsonl:7: "query" must be text, not null'),
        ({"query": 12}, 'x.jsonl:7: "query" must be text, not a number'),
        ({"query": True}, 'x.jsonl:7: "query" must be text, not true or false'),
        ({"query": ["a"]}, 'x.jsonl:7: "query" must be text, not a list'),
        ({"query": {"a": 1}}, 'x.jsonl:7: "query" must be text, not an object'),
        ({"query": b"a"}, 'x.jsonl:7: "query" must be text, not a bytes'),
        ({"query": " \n"}, 'x.jsonl:7: "query" is blank'),
        ({"query": "cut emoji \ud83d"}, 'x.jsonl:7: "query" holds half of a UTF-16 surrogate pair'),
    ],
)
def test_a_row_without_a_usable_query_says_why(row: dict[str, object], message: str) -> None:
    query, problems = _query(row)
    assert query is None
    assert len(problems) == 1
    assert problems[0].startswith(message)

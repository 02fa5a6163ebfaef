from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.errors import InputError
from semroute.outcomes.files import append_row, known_cells, written_rows


def test_rows_are_read_back_and_an_incomplete_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert written_rows(path) == []
    for query in ("één", "two\nlines", "\ud800"):
        append_row(path, {"query": query})
    with path.open("a") as file:
        file.write('{"query": "thr')
    assert [row["query"] for row in written_rows(path)] == ["één", "two\nlines", "?"]
    append_row(path, {"query": "four"})
    assert len(written_rows(path)) == 4


def test_a_complete_last_line_without_line_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "a"}\n{"query": "b"}')
    assert [row["query"] for row in written_rows(path)] == ["a", "b"]
    append_row(path, {"query": "c"})
    assert [row["query"] for row in written_rows(path)] == ["a", "b", "c"]


def test_what_is_no_file_of_rows_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "a"}\n[1]\n')
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        written_rows(path)
    with pytest.raises(InputError, match="cannot be written"):
        append_row(tmp_path / "nowhere" / "x", {})


def test_cells_are_known_by_query_and_task_from_rows_of_either_form() -> None:
    known = known_cells(
        [
            {"query": "q", "outcomes": {"a": {"quality": 1}, "b": None}},
            {"query": " q ", "task": None, "model": "c", "quality": 0},
            {"query": "q", "task": "t", "outcomes": {"a": {"quality": 0}}},
            {"query": "other", "outcomes": "nothing to use"},
        ]
    )
    assert {key: set(cells) for key, cells in known.items()} == {
        ("q", ""): {"a", "c"},
        ("q", "t"): {"a"},
        ("other", ""): set(),
    }
    assert known["q", "t"]["a"]["quality"] == 0


def test_a_written_row_contains_no_line_separator(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, {"query": "a\x85b\u2028c\u2029d"})
    append_row(path, {"query": "\u6c47"})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["query"] for line in lines] == ["a\x85b\u2028c\u2029d", "\u6c47"]
    assert "\u6c47" in lines[1]

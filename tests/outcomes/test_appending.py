from __future__ import annotations

from pathlib import Path

import pytest

from semroute.errors import InputError
from semroute.outcomes.appending import append_row, written_rows


def test_rows_come_back_and_a_line_that_was_being_written_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert written_rows(path) == []
    for query in ("één", "two\nlines", "\ud800"):
        append_row(path, {"query": query})
    with path.open("a") as file:
        file.write('{"query": "thr')
    assert [row["query"] for row in written_rows(path)] == ["één", "two\nlines", "?"]
    append_row(path, {"query": "four"})
    assert len(written_rows(path)) == 4


def test_what_is_no_file_of_rows_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "a"}\n[1]\n')
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        written_rows(path)
    with pytest.raises(InputError, match="cannot be written"):
        append_row(tmp_path / "nowhere" / "x", {})

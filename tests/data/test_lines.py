from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from semroute.data.examples import Notes, stop_at_first
from semroute.data.rows import decoded_lines, file_lines
from semroute.errors import DataError


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert list(decoded_lines([b"\xef\xbb\xbfa\n", b"b"], stop_at_first(Path("x")))) == [(1, "a\n"), (2, "b")]


def test_a_line_that_is_not_utf_8_is_named_and_ends_the_reading() -> None:
    notes = Notes(Path("x.txt"))
    lines = list(decoded_lines([b"good\n", "caf\u00e9\n".encode("latin-1"), b"later\n"], notes.problem))
    assert lines == [(1, "good\n")]
    assert [str(problem) for problem in notes.problems] == ["x.txt:2: is not UTF-8 text; save the file as UTF-8"]


def test_lines_are_read_as_they_are_asked_for() -> None:
    asked: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            asked.append(1)
            yield b"x\n"

    lines = decoded_lines(endless(), stop_at_first(Path("x")))
    assert next(lines) == (1, "x\n")
    assert len(asked) == 1


def test_unicode_separators_do_not_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("a\u2028b\x85c\x0bd\ne\n", encoding="utf-8")
    assert [number for number, _ in file_lines(path, stop_at_first(path))] == [1, 2]


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(file_lines(tmp_path / "none", stop_at_first(tmp_path)))
    with pytest.raises(DataError, match="is a folder"):
        list(file_lines(tmp_path, stop_at_first(tmp_path)))
    with pytest.raises(DataError, match="cannot be read"):
        list(file_lines(Path("nul\0byte"), stop_at_first(tmp_path)))


def test_a_line_without_end_is_refused_and_not_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "zero.jsonl"
    path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"zero.jsonl:1: the line is longer than 8 MiB; shorten its text, or split it"):
        list(file_lines(path, stop_at_first(path)))

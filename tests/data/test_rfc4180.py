from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.data.examples import Notes
from semroute.data.rows import csv_records, csv_rows

_tricky = st.text(st.sampled_from('ab",\n ;\u00e9')) | st.text(st.characters(exclude_categories=["Cs"]))


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, line.decode()) for number, line in enumerate(io.BytesIO(text.encode()), start=1)]


def _records(text: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    notes = Notes(Path("x.csv"))
    records = list(csv_records(_lines(text), notes.problem))
    return records, [str(problem) for problem in notes.problems]


def _rows(text: str, *required: str) -> tuple[list[tuple[int, dict[str, object]]], list[str]]:
    notes = Notes(Path("x.csv"))
    rows = list(csv_rows(_lines(text), notes.problem, required=required or ("query",)))
    return rows, [str(problem) for problem in notes.problems]


@pytest.mark.slow
@given(st.lists(st.lists(_tricky, min_size=2, max_size=3), max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_the_standard_library_writes_is_read_back_equal(table: list[list[str]], end: str) -> None:
    out = io.StringIO()
    # Before Python 3.13 the writer leaves a carriage return unquoted, against the RFC, where lines end in a line feed.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL
    csv.writer(out, lineterminator=end, quoting=quoting).writerows(table)
    records, problems = _records(out.getvalue())
    assert problems == []
    assert [fields for _, fields in records] == table


@given(st.text(st.sampled_from('a",\n'), max_size=12))
def test_whatever_is_accepted_means_the_same_to_the_standard_library(text: str) -> None:
    records, problems = _records(text)
    if not problems:
        # RFC 4180 has no escape but the doubled quote, so both must agree wherever neither complains.
        assert [fields for _, fields in records] == [row for row in csv.reader(io.StringIO(text, "")) if row]


@pytest.mark.slow
@given(st.lists(_tricky, min_size=1, max_size=6))
def test_a_record_is_numbered_by_the_line_where_it_starts(queries: list[str]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    starts = []
    for query in queries:
        starts.append(out.getvalue().count("\n") + 1)
        writer.writerow([query])
    assert [start for start, _ in _records(out.getvalue())[0]] == starts


def test_a_field_beyond_the_standard_librarys_limit_is_read() -> None:
    long = 'word, "quoted"\n' * 70_000
    out = io.StringIO()
    csv.writer(out).writerows([["query"], [long]])
    assert _rows(out.getvalue()) == ([(2, {"query": long})], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('query\nok\n5" pipe\nmore\n', "x.csv:3: malformed CSV: a quote inside an unquoted field"),
        ('query\nok\nsay "hi"\n', "x.csv:3: malformed CSV: a quote inside an unquoted field"),
        ('query\n"a\nb"c\n', "x.csv:3: malformed CSV: text after a closing quote"),
        ('query\n"a\nb""\n', "x.csv:2: malformed CSV: a quoted field that is never closed"),
        ('query\nx,"\n', "x.csv:2: malformed CSV: a quoted field that is never closed"),
        ("query\ra\rb\n", "x.csv:1: malformed CSV: a carriage return alone"),
    ],
)
def test_a_quote_out_of_place_is_named_where_it_is(text: str, message: str) -> None:
    _, problems = _rows(text)
    assert len(problems) == 1
    assert problems[0].startswith(message)


def test_a_record_of_another_width_is_named_and_the_others_are_read() -> None:
    rows, problems = _rows("query,category\na,b\nhello, world,code\nalone\nc,d\n")
    assert [number for number, _ in rows] == [2, 5]
    assert problems == [
        "x.csv:3: 3 fields where the header has 2; put a field that holds a comma or a line break in double quotes",
        "x.csv:4: 1 field where the header has 2; put a field that holds a comma or a line break in double quotes",
    ]


def test_a_header_is_trimmed_and_may_have_columns_without_names() -> None:
    rows, problems = _rows("id, query ,,\n1,hello,,\n")
    assert problems == []
    assert rows[0][1]["query"] == "hello"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,b\n", 'x.csv:1: the header has no column "query" (its columns: "text, label")'),
        ("query;category\na;b\n", 'x.csv:1: the header has no column "query"; separate the columns with commas'),
        ("query,query\na,b\n", 'x.csv:1: the column "query" is named twice'),
        ("\n\nquery\na\n", 'x.csv:3: the header has no column "category"'),
    ],
)
def test_a_header_that_cannot_be_used_is_said_once(text: str, message: str) -> None:
    rows, problems = _rows(text, "query", "category")
    assert rows == []
    assert len(problems) == 1
    assert problems[0].startswith(message)


def test_a_file_without_a_header_has_no_rows() -> None:
    assert _rows("\n\n") == ([], [])


def test_a_quote_that_is_never_closed_does_not_take_in_the_whole_file() -> None:
    read: list[int] = []

    def endless() -> Iterator[tuple[int, str]]:
        yield 1, "query\n"
        yield 2, '"open\n'
        for number in itertools.count(3):
            read.append(number)
            yield number, "x" * 1_000_000 + "\n"

    notes = Notes(Path("x.csv"))
    assert list(csv_rows(endless(), notes.problem, required=("query",))) == []
    assert [str(problem) for problem in notes.problems] == [
        "x.csv:2: the record is longer than 8 MiB; shorten its text, or split it"
    ]
    assert len(read) == 9

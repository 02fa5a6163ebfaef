"""Telling code from talk about code: held to a set whose other half the patterns were written on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text.code import looks_like_code

ROWS = [json.loads(line) for line in (Path(__file__).parents[1] / "samples/code_texts.jsonl").read_bytes().splitlines()]


def _counts(part):
    rows = [row for row in ROWS if row["part"] == part]
    found = [row for row in rows if looks_like_code(row["text"])]
    right = sum(row["code"] for row in found)
    return right, len(found), sum(row["code"] for row in rows)


def test_on_the_rows_kept_apart_precision_and_recall_are_what_the_docstring_says():
    right, found, wanted = _counts("test")

    assert wanted == 35
    assert right / found == pytest.approx(0.943, abs=0.001)
    assert right / wanted == pytest.approx(0.943, abs=0.001)


def test_the_development_rows_are_all_classified_correctly():
    right, found, wanted = _counts("dev")

    assert right == found == wanted


def test_queries_about_everyday_matters_are_not_code():
    held_out = [
        json.loads(line) for line in (Path(__file__).parents[1] / "samples/held_out.jsonl").read_bytes().splitlines()
    ]
    others = [row["query"] for row in held_out if row["category"] not in ("code", "data_analysis")]

    assert len(others) > 500
    assert not [query for query in others if looks_like_code(query)]


def test_code_at_the_end_of_a_long_text_is_seen():
    assert looks_like_code("word " * 100_000 + "\n```\nx\n```")


@given(st.text())
def test_no_text_raises_an_error(text):
    assert looks_like_code(text) in (True, False)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "(",
        "x(",
        "<a ",
        "for (",
        "{",
        " ",
        "\n",
        "a.b",
        "def f(",
        "SELECT ",
        "#0 a in ",
        "a: a\n",
        "<a>",
        "x[",
        "f(),",
    ],
)
def test_a_hostile_megabyte_takes_no_longer_than_a_short_text(piece):
    text = piece * (1_000_000 // len(piece))

    fastest = min(_seconds(text) for _ in range(3))

    assert fastest < 0.1  # 5 ms on a machine that has nothing else to do


def _seconds(text):
    start = time.perf_counter()
    looks_like_code(text)
    return time.perf_counter() - start

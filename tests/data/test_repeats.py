from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.data.examples import CategoryFile, Example, Notes, across_categories, once_each


def _content(*texts: str) -> CategoryFile:
    return CategoryFile(tuple(Example(text, number) for number, text in enumerate(texts, start=1)))


def test_an_example_written_twice_is_kept_once_and_named() -> None:
    notes = Notes(Path("code.txt"))
    kept = once_each(_content("a", "b", "a"), notes)
    assert [example.text for example in kept.examples] == ["a", "b"]
    assert [str(warning) for warning in notes.warnings] == ['code.txt:3: "a" is in line 1 too; it counts once']


@pytest.mark.slow
@given(st.lists(st.sampled_from("abcde")))
def test_what_is_kept_is_every_text_in_the_order_of_its_first_place(texts: list[str]) -> None:
    notes = Notes(Path("x"))
    kept = [example.text for example in once_each(_content(*texts), notes).examples]
    assert kept == list(dict.fromkeys(texts))
    assert len(notes.warnings) == len(texts) - len(kept)


def test_texts_that_differ_in_case_are_two_examples_of_one_category() -> None:
    notes = Notes(Path("x"))
    assert len(once_each(_content("Hi", "hi"), notes).examples) == 2
    assert notes.warnings == []


def test_an_example_in_three_categories_is_one_finding_that_names_all() -> None:
    files = [
        (Path("f/code.txt"), _content("x", "Sort  a list")),
        (Path("f/data.txt"), _content("sort a list")),
        (Path("f/maths.txt"), _content("y", "z", "SORT A\nLIST")),
    ]
    (finding,) = across_categories(files)
    assert finding.path == Path("f/code.txt")
    assert finding.line == 2
    assert finding.message.startswith('"Sort a list" is an example in data.txt:1 and maths.txt:3 too')


def test_categories_without_a_common_example_have_no_finding() -> None:
    assert across_categories([(Path("a"), _content("x", "X")), (Path("b"), _content("y"))]) == []

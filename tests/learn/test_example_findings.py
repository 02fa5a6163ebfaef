from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.data.examples import Category, Finding
from semroute.learn.near_twins import example_findings, near_twins
from semroute.types import Matrix


def findings(examples: dict[str, list[str]], vectors: Matrix | None = None) -> list[Finding]:
    categories = [
        Category(name, "", (), tuple(texts), source=Path(f"{name}.txt")) for name, texts in sorted(examples.items())
    ]
    labels: NDArray[np.int64] = np.repeat(np.arange(len(categories)), [len(one.examples) for one in categories])
    texts = [text for category in categories for text in category.examples]
    if vectors is None:
        vectors = np.eye(len(texts), dtype=np.float32)
    return example_findings(categories, labels, near_twins(texts, labels, vectors), vectors)


def test_near_twins_are_named_with_their_category_and_number() -> None:
    found = findings({"orders": ["cancel it", "Cancel it.", "where is it", "stop"], "other": ["hello there", "bye"]})
    assert [str(finding).startswith("orders.txt: 1 of 4 examples are near-duplicates") for finding in found] == [True]
    assert '"cancel it" and "Cancel it."' in found[0].message


def test_one_pair_of_near_duplicates_is_not_reported() -> None:
    texts = [f"{chr(97 + n // 26)}{chr(97 + n % 26)} question" for n in range(60)]
    assert findings({"orders": [*texts, texts[0].upper()]}) == []


def test_examples_of_two_categories_with_one_vector_are_named() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 1, 2]]
    (found,) = findings(
        {"bad": ["this is bad", "\N{THUMBS DOWN SIGN}"], "good": ["\N{THUMBS UP SIGN}", "fine"]}, vectors
    )
    assert found.path == Path("bad.txt")
    assert 'cannot tell 2 examples of "bad" and "good" apart' in found.message
    assert "\N{THUMBS DOWN SIGN}" in found.message
    assert "\N{THUMBS UP SIGN}" in found.message


def test_texts_of_one_category_that_the_encoder_does_not_know_are_named_once() -> None:
    thai = ["\u0e2a\u0e27\u0e31", "\u0e25\u0e32\u0e01", "\u0e02\u0e2d\u0e1a"]
    (found,) = findings({"greetings": [*thai, "hello"]}, np.eye(2, dtype=np.float32)[[0, 0, 0, 1]])
    assert 'cannot tell 3 examples of "greetings" apart' in found.message


def test_spellings_with_equal_vectors_are_not_reported() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    assert not any(
        "apart" in one.message for one in findings({"a": ["x y", "caf\u00e9"], "b": ["Cafe!", "z"]}, vectors)
    )

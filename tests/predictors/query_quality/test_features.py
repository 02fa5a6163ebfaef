from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.predictors.query_features import (
    BLOCKS,
    FEATURES,
    MAX_CHARACTERS,
    OPTIONS,
    UNKNOWN,
    feature_matrix,
    features,
)

CHOICE = (
    "In 1969, which of the following did NASA pay $5 for?\nA. A moon of 3 kg\nB. A moon of 4 kg\nC. None of the above"
)


@pytest.mark.slow
@given(st.text())
def test_features_are_finite_and_the_same_in_name_and_order(query: str) -> None:
    found = features(query)
    assert tuple(found) == FEATURES
    assert all(math.isfinite(value) for value in found.values())


def test_every_block_that_is_promised_is_there() -> None:
    assert BLOCKS == (
        "length", "form", "language", "numbers", "mathematics", "code", "entities", "options", "question", "domain",
    )  # fmt: skip


def test_the_features_of_a_multiple_choice() -> None:
    found = features(CHOICE)
    assert found["options: how many"] == 3
    assert found["options: with digits"] == pytest.approx(2 / 3)
    assert found["options: numeric"] == 0
    assert found["options: all or none of the others"] == 1
    assert found["options: longest"] == pytest.approx(math.log1p(len("None of the above")))
    assert found["question: which"] == 1
    assert found["question: choose"] == 1
    assert found["entities: acronyms"] == pytest.approx(math.log1p(1))
    assert found["entities: amounts"] == pytest.approx(math.log1p(1))
    assert found["form: money"] == pytest.approx(math.log1p(1))
    assert found["mathematics: units"] == pytest.approx(math.log1p(2))
    assert found["length: before the options"] == pytest.approx(math.log1p(CHOICE.index("\nA")))
    assert found["form: ends as a question"] == 1


def test_without_options_their_features_are_unknown() -> None:
    found = features("Tell me a joke")
    assert {found[name] for name in OPTIONS[1:]} == {UNKNOWN}
    assert found["options: how many"] == 0


def test_code_language_and_domain_are_features() -> None:
    assert features("def f(x):\n    return x")["code: looks like it"] == 1
    assert features("the patient has a disease")["domain: medicine"] == pytest.approx(math.log1p(2))
    assert features("Привет, как дела?")["language: beyond ASCII"] > 0.5
    assert features("what is the name of it")["language: common English words"] == pytest.approx(4 / 6)


def test_long_texts_are_read_at_both_ends_and_keep_their_length() -> None:
    text = "start √ " + "word " * 10_000 + "end ∑"
    found = features(text)
    assert found["length: characters"] == pytest.approx(math.log1p(len(text)))
    assert found["mathematics: symbols"] == pytest.approx(math.log1p(2))
    assert found["length: words"] < math.log1p(MAX_CHARACTERS)


def test_a_matrix_has_a_row_for_each_query_and_none_for_none() -> None:
    assert feature_matrix(["a", "b"]).shape == (2, len(FEATURES))
    assert feature_matrix([]).shape == (0, len(FEATURES))


@pytest.mark.slow
def test_hostile_texts_take_linear_time() -> None:
    for text in ("a. \n" * 4000, "A" * 9000, "1," * 5000, "( " * 5000, "Ab " * 3000, "\n" * 9000, "$" * 9000):
        start = time.process_time()
        features(text)
        assert time.process_time() - start < 0.5

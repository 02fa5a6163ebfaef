from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from semroute.evaluate.routing import OUT_OF_SCOPE, decide
from semroute.index import BothScores
from semroute.index.scoring import margin_score
from semroute.learn.first_stage import (
    ALLOWED_SLIPS,
    MAX_ANSWERED,
    FirstStageFit,
    FirstStagePlan,
    ValidationRows,
    fit_first_stage,
    lowest_bar,
)
from semroute.learn.fit import FitOptions, Fitted, fit
from semroute.learn.thresholds import RejectionTarget
from semroute.types import Matrix

SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def unit(rows: NDArray[np.float64]) -> Matrix:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Table:
    """An encoder to which a text is the number of its vector."""

    table: Matrix
    name: str = "table"
    fingerprint: str = "0"

    @property
    def dimensions(self) -> int:
        return self.table.shape[1]

    def encode(self, texts: Sequence[str]) -> Matrix:
        return self.table[[int(text) for text in texts]]


@dataclass(frozen=True)
class Case:
    """Examples of three categories as both encoders see them; the first one sees with more noise."""

    labels: NDArray[np.int64]
    first: Table
    second: Table
    index: Fitted

    @property
    def texts(self) -> list[str]:
        return [str(number) for number in range(len(self.labels))]

    def fit(self, plan: FirstStagePlan) -> FirstStageFit:
        return fit_first_stage(
            plan,
            self.texts,
            self.labels,
            self.index,
            self.second,
            thresholds=self.index.thresholds,
            pinned=np.zeros(3, dtype=np.bool_),
            options=FitOptions(head=False),
        )


def case(noise: float, each: int = 80) -> Case:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), each)
    centres = np.eye(3, 16)[labels]

    def seen(noise: float) -> Table:
        return Table(unit(centres + noise * random.standard_normal(centres.shape)))

    first, second = seen(noise), seen(0.25)
    return Case(labels, first, second, fit(second.table, labels, options=FitOptions(head=False)))


@st.composite
def labelled(draw: st.DrawFn) -> tuple[BothScores, NDArray[np.int64]]:
    shape = draw(st.integers(1, 12)), draw(st.integers(2, 3))
    first, second = (draw(arrays(np.float32, shape, elements=SCORES)) for _ in range(2))
    labels = draw(arrays(np.int64, shape[0], elements=st.integers(OUT_OF_SCOPE, shape[1] - 1)))
    return BothScores(first, second), labels


def harmless(both: BothScores, labels: NDArray[np.int64], thresholds: NDArray[np.float64], bar: float) -> bool:
    """What the bar promises, said another way."""
    inside = labels != OUT_OF_SCOPE
    together, alone = both.scores(thresholds, bar), both.second
    right = (together.argmax(axis=1) == labels)[inside].sum() >= (alone.argmax(axis=1) == labels)[inside].sum()
    slips = (both.answered(thresholds, bar) & ~decide(alone, thresholds)[1])[~inside].sum()
    return bool(right and slips <= int(ALLOWED_SLIPS * (~inside).sum()))


@pytest.mark.slow
@given(labelled(), st.sampled_from([0.0, 0.25, 0.6]))
@settings(deadline=None, max_examples=150)
def test_the_bar_is_the_lowest_that_does_no_harm(given: tuple[BothScores, NDArray[np.int64]], threshold: float) -> None:
    both, labels = given
    assert both.first is not None
    thresholds = np.full(both.second.shape[1], threshold)
    inside = labels != OUT_OF_SCOPE
    bar = lowest_bar(both, labels, thresholds, floor=-1.0)
    tried = [value for value in margin_score(both.first[inside]) if harmless(both, labels, thresholds, value)]
    if math.isinf(bar):
        answering = [v for v in tried if both.answered(thresholds, v)[inside & (margin_score(both.first) == v)].any()]
        assert answering == []
    else:
        assert harmless(both, labels, thresholds, bar)
        answered = both.answered(thresholds, bar)
        assert all((both.answered(thresholds, value) <= answered)[inside].all() for value in tried)


def test_without_out_of_scope_queries_the_least_confident_fifth_goes_to_the_second_stage() -> None:
    best = np.linspace(0.5, 1.0, 50)
    scores = np.column_stack([best, np.zeros(50)]).astype(np.float32)
    both, labels, thresholds = BothScores(scores, scores), np.zeros(50, dtype=np.int64), np.zeros(2)
    assert both.answered(thresholds, lowest_bar(both, labels, thresholds)).mean() == pytest.approx(MAX_ANSWERED)
    assert both.answered(thresholds, lowest_bar(both, labels, thresholds, floor=-1.0)).all()
    assert both.answered(thresholds, lowest_bar(both, labels, thresholds, floor=1.9)).sum() == 5


def test_wrongly_accepted_queries_raise_the_bar_only_if_the_second_stage_rejects_them() -> None:
    inside = np.column_stack([np.linspace(0.5, 1.0, 50), np.zeros(50)])
    strange = np.array([[0.75, 0.0], [0.625, 0.0]])
    first = np.concatenate([inside, strange]).astype(np.float32)
    labels = np.array([0] * 50 + [OUT_OF_SCOPE] * 2)
    for score, expected in ((0.0, 1.5), (0.9, 1.25), (1.0, 1.0)):
        second = first.copy()
        second[50:, 0] = [score if score != 0.9 else 0.9, 0.0 if score != 1.0 else 1.0]
        bar = lowest_bar(BothScores(first, second), labels, np.full(2, 0.4))
        assert bar >= expected
        assert bar < expected + 0.03


@pytest.mark.slow
def test_an_equally_good_first_stage_answers_most_queries_and_reports_its_effect() -> None:
    given = case(noise=0.25)
    found = given.fit(FirstStagePlan(given.first))
    assert found.stage is not None
    assert found.report["chosen_on"] == "held-out"
    assert found.report["queries"] == 240
    assert 0.5 < found.report["answered"] <= MAX_ANSWERED
    assert found.report["accuracy_in_scope"] >= found.report["accuracy_without"]
    assert found.report["slips"] is None
    assert found.floor is None
    own, held = fit(given.first.table, given.labels, options=FitOptions(head=False)), given.index.held
    assert own.held is not None
    assert held is not None
    np.testing.assert_array_equal(own.held.labels, held.labels)
    both = BothScores(own.held.scores, held.scores)
    assert found.stage.bar == lowest_bar(both, held.labels, given.index.thresholds)


def test_a_useless_first_stage_is_left_out() -> None:
    given = case(noise=50.0)
    found = given.fit(FirstStagePlan(given.first))
    assert found.stage is None
    assert found.index is given.index
    assert found.report["answered"] < 0.2


def test_where_nothing_can_be_held_out_no_bar_can_be_chosen() -> None:
    given = case(noise=0.1, each=1)
    found = given.fit(FirstStagePlan(given.first))
    assert found.stage is None
    assert found.report["chosen_on"] == "nothing"


@pytest.mark.slow
def test_validation_rows_with_out_of_scope_queries_set_a_bar_that_stays_the_floor() -> None:
    given = case(noise=0.3)
    # Rows of the tables that are no examples: the first half of each category becomes the examples.
    examples = np.flatnonzero(np.arange(240) % 2 == 0)
    rows = np.flatnonzero(np.arange(240) % 2 == 1)
    labels = np.where(given.labels[rows] == 2, OUT_OF_SCOPE, given.labels[rows])
    kept = examples[given.labels[examples] < 2]
    index = fit(given.second.table[kept], given.labels[kept], options=FitOptions(head=False))
    plan = FirstStagePlan(
        given.first, ValidationRows([str(row) for row in rows], labels, RejectionTarget(oos_recall=0.9))
    )
    texts = [str(row) for row in kept]
    pinned = np.zeros(2, dtype=np.bool_)
    found = fit_first_stage(
        plan,
        texts,
        given.labels[kept],
        index,
        given.second,
        thresholds=index.thresholds,
        pinned=pinned,
        options=FitOptions(head=False),
    )
    assert found.stage is not None
    assert found.report["chosen_on"] == "validation"
    assert found.report["queries"] == 120
    assert found.report["slips"] <= ALLOWED_SLIPS
    assert found.floor == found.stage.bar
    again = fit_first_stage(
        replace(plan, rows=None, floor=found.floor), texts, given.labels[kept], index, given.second,
        thresholds=index.thresholds, pinned=pinned, options=FitOptions(head=False),
    )  # fmt: skip
    assert again.stage is not None
    assert again.stage.bar >= found.floor == again.floor


@pytest.mark.slow
def test_each_stage_is_calibrated_on_the_queries_that_it_answers() -> None:
    given = case(noise=0.35, each=300)
    found = given.fit(FirstStagePlan(given.first))
    assert found.stage is not None
    assert given.index.held is not None
    own = fit(given.first.table, given.labels, options=FitOptions(head=False)).held
    assert own is not None
    both, labels = BothScores(own.scores, given.index.held.scores), own.labels
    answered = both.answered(given.index.thresholds, found.stage.bar)
    for scorer, scores, mine in (
        (found.stage.scorer, both.first, answered),
        (found.index.scorer, both.second, ~answered),
    ):
        assert scores is not None
        right = (scores.argmax(axis=1) == labels)[mine]
        assert scorer.confidence(scores[mine]).mean() == pytest.approx(right.mean(), abs=0.02)

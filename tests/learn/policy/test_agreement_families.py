from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Config, Price
from semroute.index import BothScores
from semroute.learn.policy.agreement import (
    AgreementPlan,
    ByAgreement,
    ByClassifierAndAgreement,
    agreement_of_pairs,
    pairs_to_compare,
    plans_of,
)
from semroute.learn.policy.families import PairAgreement, PolicyData
from semroute.outcomes.costs import with_costs
from semroute.outcomes.table import OutcomeTable, TableBuilder

MODELS = ("small", "small2", "large")
PLAN = AgreementPlan(0, 1, 2)


def table(answers: list[tuple[str | None, ...]], models: tuple[str, ...] = MODELS) -> OutcomeTable:
    """Outcomes of models that cost more from the left to the right."""
    builder = TableBuilder(keep_responses=True)
    for number, texts in enumerate(answers):
        row = builder.row(f"How many are there in case {number}?", "")
        for model, text in zip(models, texts, strict=True):
            builder.add(row, model, {"quality": 1.0, "input_tokens": 10.0, "output_tokens": 10.0}, text)
    prices = {model: Price(input=10**place, output=10**place) for place, model in enumerate(models)}
    return with_costs(builder.table(), prices).table


def part(n: int, *, seed: int = 0) -> PolicyData:
    """Rows on which the cheap models often agree, and are then mostly right; predictions know the truth."""
    random = np.random.default_rng(seed)
    asked = random.random(n) < 0.9
    agreed = asked & (random.random(n) < 0.7)
    quality = np.column_stack([random.random(n) < np.where(agreed, 0.95, 0.3), agreed, np.ones(n)]).astype(np.float32)
    cost = np.tile(np.array([0.001, 0.002, 0.04], np.float32), (n, 1))
    nothing = BothScores(None, np.zeros((n, 0), np.float32))
    pairs = {(0, 1): PairAgreement(asked, agreed)}
    return PolicyData(quality, cost, quality, cost.astype(np.float64), nothing, {}, np.arange(n), pairs)


def test_answers_agree_by_what_they_say_and_nobody_is_asked_about_what_cannot_be_compared() -> None:
    rows = table(
        [
            ("The answer is 12.", "#### 12", None),
            ("The answer is 12.", "#### 13", None),
            ("It depends on who was there when they were counted.", "#### 12", None),
            ("The answer is 12.", "It depends on who was there when they were counted.", None),
            ("I'm sorry, but I can't help with that.", "I'm sorry, but I can't help with that.", None),
        ]
    )
    pairs = pairs_to_compare(rows)
    assert pairs == [(0, 1)]
    found = agreement_of_pairs(rows, pairs)[0, 1]
    assert found.asked.tolist() == [True, True, False, True, False]
    assert found.agreed.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("answers", "pairs"),
    [
        ([("1",) * 6], [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
        ([("1", None, "1", "1", "1", "1")], [(0, 2), (0, 3), (0, 4), (2, 3), (2, 4), (3, 4)]),
        ([("1", None, None, None, None, "1")], []),
        ([(None,) * 6], []),
    ],
    ids=["all told", "one untold", "one cheap one told", "none told"],
)
def test_pairs_are_of_the_cheapest_models_with_answers(
    answers: list[tuple[str | None, ...]], pairs: list[tuple[int, int]]
) -> None:
    rows = table(answers, ("a", "b", "c", "d", "e", "f"))
    assert pairs_to_compare(rows) == pairs
    assert set(agreement_of_pairs(rows, pairs)) == set(pairs)


def test_only_pairs_that_are_cheaper_than_the_third_are_planned() -> None:
    rows = part(20)
    assert plans_of(rows, 2) == (PLAN,)
    assert plans_of(rows, 1) == ()


def test_every_call_is_charged() -> None:
    rows = part(200)
    played, pair = ByAgreement(MODELS, (PLAN,)).play(PLAN, rows), rows.agreement[0, 1]
    for where, usd, model in (
        (pair.agreed, 0.003, 0),
        (pair.asked & ~pair.agreed, 0.043, 2),
        (~pair.asked, 0.041, 2),
    ):
        assert where.any()
        np.testing.assert_allclose(played.cost[where], usd, rtol=1e-5)
        np.testing.assert_array_equal(played.quality[where], rows.quality[where, model])


@given(st.lists(st.integers(0, 59), min_size=1, max_size=80), st.integers(0, 20))
def test_some_rows_are_played_as_among_all(rows: list[int], seed: int) -> None:
    data, chosen = part(60, seed=seed), np.array(rows)
    family = ByClassifierAndAgreement(MODELS, (PLAN,), "p")
    for parameter, whole in family.tried(data):
        some = family.play(parameter, data.take(chosen))
        np.testing.assert_array_equal(some.quality, whole.quality[chosen])
        np.testing.assert_array_equal(some.cost, whole.cost[chosen])


def test_the_classifier_spends_less_where_it_knows_that_the_first_model_fails() -> None:
    rows = part(400)
    alone = ByAgreement(MODELS, (PLAN,)).play(PLAN, rows).point
    found = [outcomes.point for _, outcomes in ByClassifierAndAgreement(MODELS, (PLAN,), "p").tried(rows)]
    assert any(quality >= alone[0] and cost < alone[1] for quality, cost in found)


def test_the_sections_are_a_configuration_that_names_what_was_played() -> None:
    both = [
        ByAgreement(MODELS, (PLAN,)).config(PLAN),
        ByClassifierAndAgreement(MODELS, (PLAN,), "p").config((np.inf, PLAN)),
    ]
    for sections in both:
        read = Config.model_validate(dict(sections))
        assert [tier.use for tier in read.cascade.tiers] == ["small", "large"]
        assert read.cascade.accept.agreement == ("small", "small2")
    assert both[0]["fallback"] == {"models": ["small", "small2", "large"]}
    assert both[1]["cascade"]["start"] == "decided"
    assert both[1]["classifier"] == {"folder": "p/classifier", "value": 1e6, "candidates": ["small", "large"]}


def test_every_family_describes_its_parameters() -> None:
    rows = part(60)
    for family in (ByAgreement(MODELS, (PLAN,)), ByClassifierAndAgreement(MODELS, (PLAN,), "p")):
        for parameter, _ in family.tried(rows):
            assert "small where small2 agrees, else large" in family.words(parameter)

"""A tuned policy is measured on rows that had no part in its choice."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from learn.policy.policy_parts import MODELS, part

from semroute.evaluate.baselines import EvaluationData
from semroute.evaluate.comparison_results import CLUSTERS, LENGTH, ORACLE
from semroute.evaluate.controls import RANDOM, SHUFFLED, SINGLE
from semroute.evaluate.risk import Promise
from semroute.learn.policy.controls import NAME, HoldoutResults, TunedControls, tuned_controls
from semroute.learn.policy.families import ByClassifier, CascadeFamily, PolicyData, SingleModels
from semroute.learn.policy.prepare import PolicySplit
from semroute.learn.policy.search import Goal, PolicySearch, points

FAMILIES = [SingleModels(MODELS), ByClassifier(MODELS, "p"), CascadeFamily(MODELS, 0, 1, "p")]


def search(rows: PolicyData, goal: Goal, held: PolicyData | None = None) -> PolicySearch:
    prepared = PolicySplit(rows, rows if held is None else held, classifier=None)  # type: ignore[arg-type]
    return PolicySearch(points(FAMILIES, rows), prepared, goal)


def data(rows: PolicyData) -> EvaluationData:
    vectors = np.random.default_rng(0).standard_normal((len(rows), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = [f"query {number} {'x' * (number % 9)}" for number in range(len(rows))]
    return EvaluationData(queries, [""] * len(rows), vectors, rows.quality)


def controls(rows: PolicyData, goal: Goal, held: PolicyData | None = None) -> TunedControls:
    found = tuned_controls(search(rows, goal, held), data(rows if held is None else held), None, Promise())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def informed() -> TunedControls:
    return controls(part(1000, skill=0.9), Goal(min_quality=0.9))


@pytest.mark.slow
def test_every_control_stands_with_the_policy_and_is_written(informed: TunedControls) -> None:
    assert [row.name for row in informed.rows] == [NAME, SHUFFLED, RANDOM, SINGLE, LENGTH, CLUSTERS, ORACLE]
    written = json.loads(json.dumps(informed.to_dict(), allow_nan=False))
    assert set(written["rows"]) == {row.name for row in informed.rows}
    assert written["sentence"] == informed.sentence()
    assert "of 200 splits kept the floor of 90.0%." in informed.sentence()


def test_an_informed_policy_beats_its_own_calls_given_at_random(informed: TunedControls) -> None:
    margin = {row.name: row.margin for row in informed.rows}
    for name in (SHUFFLED, RANDOM, LENGTH, CLUSTERS):
        assert margin[name] is not None
        assert margin[name].low > 0.02, name
    assert margin[ORACLE].value <= 0.01
    assert informed.halves.kept is not None
    assert informed.halves.kept >= 190
    assert informed.halves.saved > 0.3


@pytest.mark.slow
def test_what_was_lucky_on_the_rows_that_chose_it_is_not_credited() -> None:
    """Of policies without merit the luckiest is as good as the strongest model on its own rows, and on no others."""
    rows = part(400, seed=3, skill=0.0)
    random = np.random.default_rng(4)
    rows.quality[:, 0] = random.random(400) < 0.8
    rows = replace(rows, predicted=random.random((400, 2)).astype(np.float32))
    found = search(rows, Goal(value=1.0))
    chosen = found.choose(None, Promise()).chosen
    assert chosen is not None
    halves = controls(rows, Goal(value=1.0)).halves
    own = chosen.quality / rows.quality[:, 1].mean()
    assert halves.of_strongest < own + 0.005
    assert halves.kept is None, "a value promises nothing"


@pytest.mark.parametrize("is_held_out", [False, True])
def test_the_choice_on_some_rows_does_not_depend_on_the_others(is_held_out: bool) -> None:
    rows, held = part(300, seed=1, skill=0.6), part(300, seed=2, skill=0.6)
    own = np.arange(0, 300, 2)
    spoilt = held if is_held_out else rows
    choices = []
    for is_spoilt in (False, True):
        tested = replace(spoilt, quality=spoilt.quality.copy())
        if is_spoilt:
            tested.quality[1::2] = 0.0
        found = search(rows, Goal(min_quality=0.9), tested) if is_held_out else search(tested, Goal(min_quality=0.9))
        chosen = found.choose(None, Promise(0.95, 150), own).chosen
        assert chosen is not None
        choices.append((chosen.family.name, chosen.parameter))
    assert choices[0] == choices[1]


def test_all_rows_and_no_rows_named_choose_the_same() -> None:
    found = search(part(300, skill=0.6), Goal(min_quality=0.9))
    every, named = (found.choose(1, Promise(), rows).chosen for rows in (None, np.arange(300)))
    assert every is not None
    assert named is not None
    assert (every.family, every.parameter) == (named.family, named.parameter)


@pytest.mark.slow
def test_a_cascade_is_shuffled_with_all_of_its_calls() -> None:
    """Where all is a cascade of constant prices, its calls given at random cost what it costs itself."""
    rows = part(600, skill=0.9)
    prepared = PolicySplit(rows, rows, classifier=None)  # type: ignore[arg-type]
    families = [SingleModels(MODELS), CascadeFamily(MODELS, 0, 1, "p")]
    of_cascades = PolicySearch(points(families, rows), prepared, Goal(min_quality=0.9))
    found = tuned_controls(of_cascades, data(rows), None, Promise())
    assert found is not None
    cost = {row.name: row.cost.value for row in found.rows}
    assert 0.001 < cost[NAME] < 0.02
    assert cost[SHUFFLED] == pytest.approx(cost[NAME], rel=1e-6)


@pytest.mark.slow
def test_held_out_rows_that_duplicate_no_other_have_controls_too() -> None:
    found = controls(part(200, seed=1), Goal(max_cost=0.01), part(200, seed=2))
    assert "of 200 splits kept the budget of USD 0.01 a query." in found.sentence()


def test_few_queries_have_no_controls() -> None:
    rows = part(30)
    assert tuned_controls(search(rows, Goal(value=1.0)), data(rows), None, Promise()) is None


def test_undefined_shares_are_put_into_words() -> None:
    free, nothing = HoldoutResults(200, 9, 1.02, math.nan), HoldoutResults(200, 9, math.nan, 0.1)
    goal = Goal(min_quality=0.9)
    assert free.sentence(goal).startswith("Reaches 102.0% of the strongest model's quality; 9 of 200 splits")
    assert "nan" not in nothing.sentence(goal)
    assert HoldoutResults(200, None, 1.0, -0.25).sentence(Goal(value=1.0)).startswith("Costs 25% more at 100.0%")

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from learn.policy.policy_parts import MODELS, part

from semroute.config import Config
from semroute.config.load import overlaid
from semroute.evaluate.replay import choose
from semroute.index import BothScores
from semroute.learn.policy.families import (
    AnswerPlan,
    ByCategory,
    ByClassifier,
    ByClassifierAndCascade,
    CascadeFamily,
    CategoryTable,
    Family,
    PolicyData,
    SingleModels,
)

CATEGORIES = ("easy", "hard")
ALL_OF_LARGE = {"use": "large", "accept": {"format": False}}
"""What the second model says was never checked when the policy was tested."""
FAMILIES: list[Family] = [
    SingleModels(MODELS),
    ByClassifier(MODELS, "policy/classifier"),
    ByCategory(MODELS, CATEGORIES, np.array([0.5, 0.5]), np.inf),
    CascadeFamily(MODELS, 0, 1, "policy"),
    ByCategory(MODELS, CATEGORIES, np.array([0.5, 0.5]), np.inf, "policy", with_tiers=True),
    ByClassifierAndCascade(MODELS, 0, 1, "policy"),
]
NAMES = [family.name for family in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_every_point_is_replayed_and_written_as_a_valid_configuration(family: Family) -> None:
    rows = part(400)
    tried = list(family.tried(rows))
    assert tried
    for parameter, played in tried:
        assert played.quality.shape == played.cost.shape == (400,)
        assert ((played.quality >= 0) & (played.quality <= 1)).all()
        document: dict[str, Any] = {
            **family.config(parameter),
            "deployments": [
                {
                    "name": name,
                    "model": name,
                    "format": "openai",
                    "base_url": "http://localhost:1/v1",
                    "api_key_env": "K",
                }
                for name in MODELS
            ],
        }
        assert Config.model_validate(document).fallback.models
        written = str(document)
        assert all(f"policy/checks-{number}" in written for number in family.checks(parameter))
        assert ("checks-" in written) == bool(family.checks(parameter))
        assert ("policy/classifier" in written) == family.asks_classifier


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_no_cascade_from_before_outlives_a_tuned_policy(family: Family, tmp_path: Path) -> None:
    before = {"tiers": ["old", "older"], "start": "decided"}
    config = Config.model_validate(
        {"cascade": before, "categories": {name: {"cascade": before} for name in CATEGORIES}}
    )
    for number, (parameter, _) in enumerate(family.tried(part(400))):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(dict(family.config(parameter))))
        after = overlaid(config, path)
        # A query that the classifier or nothing decides on has no category.
        asked: list[Any] = [after.cascade]
        if "semantic" in after.strategies:
            asked += [after.categories[name].cascade for name in CATEGORIES]
        assert not any(tier.use in ("old", "older") for cascade in asked for tier in cascade.tiers)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_no_rule_from_before_decides_under_a_tuned_policy(family: Family, tmp_path: Path) -> None:
    config = Config.model_validate({"rules": [{"name": "old", "only": ["old"]}]})
    parameter, _ = next(iter(family.tried(part(400))))
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(dict(family.config(parameter))))
    after = overlaid(config, path)
    assert not after.rules or "rules" not in after.strategies


def test_single_models_give_their_own_quality_and_cost() -> None:
    rows = part(100)
    (_, small), (_, large) = SingleModels(MODELS).tried(rows)
    np.testing.assert_array_equal(small.quality, rows.quality[:, 0])
    np.testing.assert_array_equal(large.cost, rows.cost[:, 1].astype(np.float64))


def test_the_classifier_runs_from_the_cheapest_to_the_best() -> None:
    rows = part(400)
    points = [played.point for _, played in ByClassifier(MODELS, "c").tried(rows)]
    costs = [cost for _, cost in points]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(0.001)
    assert points[-1][0] > 0.95


def test_a_cascade_pays_for_the_answers_that_it_rejects() -> None:
    rows = part(400)
    played = CascadeFamily(MODELS, 0, 1, "c").play(0.5, rows)
    rejected = rows.acceptance[0] < 0.5
    assert rejected.any()
    np.testing.assert_allclose(played.cost[rejected], 0.021, rtol=1e-5)
    np.testing.assert_array_equal(played.quality[rejected], rows.quality[rejected, 1])
    np.testing.assert_array_equal(played.quality[~rejected], rows.quality[~rejected, 0])


def test_categories_send_hard_ones_to_the_better_model_and_what_fits_none_to_the_fallback() -> None:
    family = ByCategory(MODELS, CATEGORIES, np.array([0.5, 0.5]), np.inf)
    split = (AnswerPlan(0), AnswerPlan(1))
    parameter = next(one for one, _ in family.tried(part(400)) if one.choice[:2] == split and one.offset == 0)
    said = family.config(parameter)["categories"]
    assert said == {"easy": {"models": ["small"], "cascade": False}, "hard": {"models": ["large"], "cascade": False}}
    moved = next(one for one, _ in family.tried(part(400)) if one.offset == 0.1)
    assert family.config(moved)["categories"]["easy"]["threshold"] == pytest.approx(0.6)
    rows = part(50)
    nothing = PolicyData(
        rows.quality, rows.cost, rows.predicted, rows.expected, BothScores(None, rows.scores.second * 0), {}, rows.group
    )
    played = family.play(parameter, nothing)
    np.testing.assert_array_equal(played.quality, nothing.quality[:, parameter.choice[-1].first])


def test_a_category_may_have_a_cascade_and_others_none() -> None:
    family = ByCategory(MODELS, CATEGORIES, np.array([0.5, 0.5]), np.inf, "p", with_tiers=True)
    rows = part(400)
    mixed = CategoryTable(1.0, 0.0, (AnswerPlan(0), AnswerPlan(0, 1, 0.5), AnswerPlan(1)))
    said = family.config(mixed)["categories"]
    assert said["easy"] == {"models": ["small"], "cascade": False}
    assert said["hard"]["cascade"]["tiers"] == ["small", ALL_OF_LARGE]
    assert said["hard"]["cascade"]["accept"]["quality"]["classifier"] == "p/checks-0"
    assert family.checks(mixed) == {0}
    hard = rows.scores.second.argmax(axis=1) == 1
    rejected = hard & (rows.acceptance[0] < mixed.choice[1].threshold)
    played = family.play(mixed, rows)
    np.testing.assert_allclose(played.cost[rejected], 0.021, rtol=1e-5)
    np.testing.assert_allclose(played.cost[~hard], rows.cost[~hard, mixed.choice[0].first], rtol=1e-5)


def test_a_cascade_of_the_fallback_is_not_that_of_categories_that_have_none() -> None:
    family = ByCategory(MODELS, CATEGORIES, np.array([0.5, 0.5]), np.inf, "p", with_tiers=True)
    parameter = CategoryTable(1.0, 0.0, (AnswerPlan(0), AnswerPlan(1), AnswerPlan(0, 1, 0.5)))
    said = family.config(parameter)
    assert said["cascade"]["tiers"] == ["small", ALL_OF_LARGE]
    assert said["categories"]["easy"] == {"models": ["small"], "cascade": False}
    assert not Config.model_validate({"categories": said["categories"]}).categories["easy"].cascade.tiers  # type: ignore[union-attr]


def test_cascades_where_they_help_are_found_by_the_search() -> None:
    rows = part(800, skill=0.9)
    singles = ByCategory(MODELS, CATEGORIES, np.array([0.5, 0.5]), np.inf)
    tiers = ByCategory(MODELS, CATEGORIES, np.array([0.5, 0.5]), np.inf, "p", with_tiers=True)

    def cheapest(family: Family) -> float:
        return min(played.point[1] for _, played in family.tried(rows) if played.point[0] >= 0.94)

    assert cheapest(tiers) < 0.9 * cheapest(singles)


def test_queries_predicted_to_be_hard_skip_the_first_tier() -> None:
    rows = part(400)
    family = ByClassifierAndCascade(MODELS, 0, 1, "p")
    value, threshold = 0.1, 0.5
    played = family.play((value, threshold), rows)
    skips = choose(rows.predicted, rows.expected, value) == 1
    assert 0 < skips.sum() < 400
    np.testing.assert_allclose(played.cost[skips], 0.02, rtol=1e-5)
    tiers = CascadeFamily(MODELS, 0, 1, "p").play(threshold, rows)
    np.testing.assert_array_equal(played.cost[~skips], tiers.cost[~skips])
    np.testing.assert_array_equal(played.quality[~skips], tiers.quality[~skips])
    np.testing.assert_array_equal(family.play((0.0, threshold), rows).cost, tiers.cost)


@pytest.mark.slow
def test_category_tables_are_replayed_out_of_fold() -> None:
    random = np.random.default_rng(0)
    many = tuple(f"c{number}" for number in range(100))
    seen, new = [], []
    for _ in range(20):
        quality = (random.random((600, 2)) < 0.5).astype(np.float32)  # nothing to learn
        scores = np.eye(100, dtype=np.float32)[random.integers(0, 100, 600)]
        cost = np.tile(np.array([1, 1], np.float32), (600, 1))
        rows = PolicyData(quality, cost, quality, cost, BothScores(None, scores), {}, np.arange(600))
        played = [one.quality.mean() for _, one in ByCategory(many and MODELS, many, np.zeros(100), np.inf).tried(rows)]
        seen.append(max(played))
        new.append(quality.mean())
    assert np.mean(seen) - np.mean(new) < 0.04

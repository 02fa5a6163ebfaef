from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from semroute.errors import ArtifactError
from semroute.evaluate.drift import (
    LARGE_SHIFT,
    MIN_QUERIES,
    NO_CATEGORY,
    DriftBaseline,
    drift,
    mix_shift,
    named,
    stability,
)
from semroute.evaluate.metrics import Interval

PRICES = {"small": (0.1, 0.4), "large": (5.0, 15.0)}
COST = Interval(0.002, 0.0018, 0.0022)


def made(scores: np.ndarray, *, cost: Interval = COST) -> DriftBaseline:
    return DriftBaseline.of(
        scores,
        scores < 0.37,
        Interval(0.9, 0.88, 0.92),
        cost,
        PRICES,
        thresholds={"code": 0.37},
        index="a",
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def baseline(rows: int = 2000) -> DriftBaseline:
    return made(np.random.default_rng(0).normal(0.5, 0.1, rows))


def now(mean: float = 0.5, rows: int = 1000) -> np.ndarray:
    return np.random.default_rng(1).normal(mean, 0.1, rows)


def reasons(then: DriftBaseline | None = None, **changed: object) -> tuple[str, ...]:
    scores = now()
    told = {
        "scores": scores,
        "below": scores < 0.37,
        "feedback": [1.0] * 90 + [0.0] * 10,
        "costs": [0.0015, 0.0025] * 100,
        "prices": PRICES,
        "index": "a",
    }
    return drift(then or baseline(), **(told | changed)).reasons  # type: ignore[arg-type]


def test_unchanged_data_gives_no_reason_to_tune() -> None:
    assert reasons() == ()


@pytest.mark.parametrize("rows", [100, 300, 3000])
@pytest.mark.parametrize("ties", [1, 8, 200])
def test_chance_alone_is_no_drift_for_small_or_tied_samples(rows: int, ties: int) -> None:
    """``ties`` scores in a hundred are one and the same, as of queries that are all but the same."""

    def drawn(seed: int, n: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        return np.where(random.random(n) < ties / 400, 0.62, random.normal(0.5, 0.1, n))

    then = made(drawn(1000, 2000))
    assert sum(then.shares) == pytest.approx(1)
    found = [stability(then, drawn(seed, rows)) for seed in range(200)]
    assert max(found) < LARGE_SHIFT
    assert np.mean(found) < 0.01


def test_equal_scores_fall_into_one_bin() -> None:
    then = made(np.full(500, 0.5))
    assert (then.cuts, then.shares) == ((0.5,), (0.0, 1.0))
    assert stability(then, np.full(200, 0.5)) == 0
    assert stability(then, np.full(200, 0.4)) > LARGE_SHIFT


def test_a_shift_of_scores_is_a_reason_to_tune() -> None:
    assert stability(baseline(), now(0.42)) > LARGE_SHIFT
    scores = now(0.42)
    found = reasons(scores=scores, below=scores < 0.37)
    assert any("the queries differ" in reason for reason in found)
    assert any("fit no category" in reason for reason in found)


def test_scores_of_another_index_are_not_compared() -> None:
    scores = now(0.2)
    found = drift(baseline(), scores, scores < 0.37, [], [], PRICES, index="b")
    assert (found.same_index, found.stability, found.below, found.queries) == (False, None, None, 0)
    assert found.reasons == ("the index is not the one that it was tuned with, so scores are not comparable",)


def test_few_queries_give_no_stability_index() -> None:
    scores = now(0.2, rows=60)
    found = drift(baseline(), scores, scores < 0.37, [], [0.5] * (MIN_QUERIES - 1), {}, index="a")
    assert found.stability is None
    assert found.reasons == ()
    assert drift(baseline(), None, None, [], [], {}, index="a").reasons == ()


def test_worse_answers_are_a_reason_once_enough_were_judged() -> None:
    assert any("answers are worse" in reason for reason in reasons(feedback=[1.0] * 70 + [0.0] * 30))
    assert not reasons(feedback=[0.0] * 20)
    assert not reasons(feedback=[1.0] * 86 + [0.0] * 14), "within what chance does"


def test_a_significantly_higher_cost_is_a_reason_to_tune() -> None:
    assert any("a query costs" in reason for reason in reasons(costs=[0.002, 0.004] * 100))
    assert not reasons(costs=[0.0001] * 200)
    assert not reasons(costs=[0.0021] * 200), "a little"
    assert not reasons(costs=[0.002] * 199 + [1.0]), "one dear query in two hundred may be one in ten thousand"
    free = replace(baseline(), cost_usd=0.0, cost_high=0.0)
    assert not reasons(free, costs=[0.001] * 200), "there is nothing to compare with"


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "low", "high"), [(1.0, 0.0, 0.025), (2.0, 0.95, 1.0)])
def test_heavy_tailed_costs_alarm_on_a_shift_and_rarely_without(factor: float, low: float, high: float) -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        seen = random.lognormal(-6, 1.3, 1000)
        half = 1.96 * seen.std() / np.sqrt(len(seen))
        then = made(now(), cost=Interval(seen.mean(), seen.mean() - half, seen.mean() + half))
        costs = factor * random.lognormal(-6, 1.3, 400)
        alarms += any("a query costs" in reason for reason in reasons(then, costs=costs.tolist()))
    assert low <= alarms / 200 <= high


def test_changed_prices_are_a_reason_to_tune() -> None:
    assert any("prices have changed: large" in reason for reason in reasons(prices={**PRICES, "large": (5.0, 10.0)}))
    assert not reasons(prices={**PRICES, "large": (5.1, 15.0), "new": (1.0, 1.0)})
    free = replace(baseline(), prices={"a": (0.0, 0.0)})
    assert reasons(free, prices={"a": (0.0, 0.1)}), "from nothing to something is a change"


NAMES = ("code", "law", "finance", NO_CATEGORY)


def drawn(shares: tuple[float, ...], rows: int, seed: int) -> list[str]:
    return [NAMES[place] for place in np.random.default_rng(seed).choice(len(shares), rows, p=shares)]


def mixed(categories: list[str]) -> DriftBaseline:
    then = made(np.linspace(0.1, 0.9, len(categories)))
    counts = {name: categories.count(name) / len(categories) for name in sorted(set(categories))}
    return replace(then, mix=counts)


@pytest.mark.parametrize("rows", [150, 600, 5000])
def test_a_mix_that_only_chance_has_moved_is_no_drift(rows: int) -> None:
    shares = (0.5, 0.3, 0.19, 0.01)
    moved = [mix_shift(mixed(drawn(shares, 800, seed)), drawn(shares, rows, seed + 1000))[0] for seed in range(200)]
    assert sum(one > 0.0 for one in moved) <= 2


def test_another_mix_with_the_same_scores_is_a_reason_to_tune_that_names_what_moved() -> None:
    then, later = mixed(drawn((0.5, 0.3, 0.19, 0.01), 800, 1)), drawn((0.25, 0.3, 0.44, 0.01), 1000, 2)
    told = [one for one in reasons(then, categories=later) if "the mix of queries has moved" in one]
    assert len(told) == 1
    assert "code 5" in told[0]
    assert "finance" in told[0]


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_a_category_that_was_never_seen_moves_the_mix(share: float) -> None:
    then = mixed(["code"] * 400 + ["law"] * 400)
    later = ["code"] * round(600 * (1 - share)) + ["finance"] * round(600 * share)
    moved, moves = mix_shift(then, later)
    assert moved > 0.2
    assert "finance" in moves


def test_few_queries_and_a_baseline_without_a_mix_are_not_compared() -> None:
    then = mixed(["code"] * 400 + ["law"] * 400)
    for compared, queries in ((then, MIN_QUERIES - 1), (baseline(), 1000)):
        assert not any("mix of queries" in one for one in reasons(compared, categories=["law"] * queries))
    old = {name: value for name, value in then.to_dict().items() if name != "mix"}
    assert DriftBaseline.from_dict(json.loads(json.dumps(old))).mix == {}


def test_a_query_below_its_threshold_has_no_category() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.3]])
    assert named(scores, np.array([False, True]), ["code", "law"]) == ["code", NO_CATEGORY]
    assert named(np.zeros((2, 0)), np.array([True, True]), []) == []


def test_a_baseline_survives_json_and_other_json_is_refused() -> None:
    then = baseline()
    told = then.to_dict()
    assert DriftBaseline.from_dict(json.loads(json.dumps(told))) == then
    wrong = [
        {**told, "cuts": "x"},
        {**told, "prices": {"a": 1}},
        {**told, "shares": [1.0]},
        {**told, "at": "2026-01-02"},
    ]
    for one in (None, [], {}, *wrong):
        with pytest.raises(ArtifactError, match="tune the policy again"):
            DriftBaseline.from_dict(one)

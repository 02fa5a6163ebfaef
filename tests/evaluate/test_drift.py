from __future__ import annotations

import json

import numpy as np
import pytest

from semroute.errors import ArtifactError
from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.drift import MUCH, Baseline, drift, stability

PRICES = {"small": (0.1, 0.4), "large": (5.0, 15.0)}


def baseline(rows: int = 2000) -> Baseline:
    scores = np.random.default_rng(0).normal(0.5, 0.1, rows)
    return Baseline.of(scores, scores < 0.37, Interval(0.9, 0.88, 0.92), 0.002, PRICES)


def now(mean: float = 0.5, rows: int = 1000) -> np.ndarray:
    return np.random.default_rng(1).normal(mean, 0.1, rows)


def reasons(**changed: object) -> tuple[str, ...]:
    scores = now()
    told = {
        "scores": scores,
        "below": scores < 0.37,
        "feedback": [1.0] * 90 + [0.0] * 10,
        "costs": [0.002],
        "prices": PRICES,
    }
    return drift(baseline(), **(told | changed)).reasons  # type: ignore[arg-type]


def test_where_nothing_has_moved_there_is_no_reason() -> None:
    assert reasons() == ()


@pytest.mark.parametrize("rows", [100, 300, 3000])
def test_chance_alone_is_no_drift_however_few_the_queries(rows: int) -> None:
    then = baseline()
    found = [stability(then, np.random.default_rng(seed).normal(0.5, 0.1, rows)) for seed in range(200)]
    assert max(found) < MUCH
    assert np.mean(found) < 0.03


def test_other_queries_are_told_by_their_scores() -> None:
    assert stability(baseline(), now(0.42)) > MUCH
    scores = now(0.42)
    found = reasons(scores=scores, below=scores < 0.37)
    assert any("queries are others" in reason for reason in found)
    assert any("fit no category" in reason for reason in found)


def test_of_few_queries_nothing_is_said() -> None:
    scores = now(0.2, rows=60)
    found = drift(baseline(), scores, scores < 0.37, [], [], {})
    assert found.stability is None
    assert found.reasons == ()
    assert drift(baseline(), None, None, [], [], {}).reasons == ()


def test_worse_answers_are_told_once_enough_were_judged() -> None:
    assert any("answers are worse" in reason for reason in reasons(feedback=[1.0] * 70 + [0.0] * 30))
    assert not reasons(feedback=[0.0] * 20)
    assert not reasons(feedback=[1.0] * 86 + [0.0] * 14), "within what chance does"


def test_dearer_queries_and_prices_are_told() -> None:
    assert any("a query costs" in reason for reason in reasons(costs=[0.001, 0.006]))
    assert not reasons(costs=[0.0001])
    assert any("prices have changed: large" in reason for reason in reasons(prices={**PRICES, "large": (5.0, 10.0)}))
    assert not reasons(prices={**PRICES, "large": (5.1, 15.0), "new": (1.0, 1.0)})
    free = drift(
        Baseline.of(now(), now() < 0, Interval(1, 1, 1), 0, {"a": (0.0, 0.0)}), None, None, [], [], {"a": (0.0, 0.1)}
    )
    assert free.reasons, "from nothing to something is a change"


def test_a_baseline_comes_back_from_json_and_nothing_else_does() -> None:
    then = baseline()
    assert Baseline.from_dict(json.loads(json.dumps(then.to_dict()))) == then
    for wrong in (None, [], {}, {**then.to_dict(), "cuts": "x"}, {**then.to_dict(), "prices": {"a": 1}}):
        with pytest.raises(ArtifactError, match="tune the policy again"):
            Baseline.from_dict(wrong)

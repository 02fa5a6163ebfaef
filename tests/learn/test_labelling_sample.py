from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.learn.labelling import RANDOM, draw, fingerprint, picks, random_sample

ROWS = 500


def judged(seed: int, *, sessions: int, first: int = ROWS) -> tuple[list[dict[str, Any]], float]:
    """300 of 500 queries judged in some sessions, as rows, and the mean quality of all 500.

    The harder a query the less sure the classifier, and the worse the answer. In the first session there are but
    ``first`` queries.
    """
    random = np.random.default_rng(seed)
    hardness = random.random(ROWS)
    quality = (random.random(ROWS) < 1 - 0.9 * hardness).astype(float)
    predicted = (1 - 0.5 * hardness)[:, None].astype(np.float32)
    draws = np.array([draw(f"query {row}", "", seed) for row in range(ROWS)])
    left, rows = np.arange(first), []
    for session in range(sessions):
        found = picks([[]] * len(left), None, predicted[left], draws=draws[left])[: 300 // sessions]
        for pick in found:
            row = int(left[pick.row])
            cells = {"model": {"quality": quality[row]}}
            rows.append({"query": f"query {row}", "picked": pick.reason, "draw": pick.draw, "outcomes": cells})
            rows[-1]["drawn_from"] = str(first if session == 0 else ROWS)
        left = np.delete(left, [pick.row for pick in found])
        left = np.concatenate([left, np.arange(first, ROWS)]) if session == 0 else left
    return rows, float(quality.mean())


def holds(quality: list[float], truth: float) -> bool:
    """Whether the 95% interval of a sample without replacement covers the mean of all (Cochran, 1977, 2.6)."""
    values = np.array(quality)
    error = np.sqrt(values.var(ddof=1) / len(values) * (1 - len(values) / ROWS))
    return bool(abs(values.mean() - truth) <= 1.96 * error)


@pytest.mark.slow
@pytest.mark.parametrize(("sessions", "first"), [(1, ROWS), (6, ROWS), (2, 250)])
def test_the_interval_of_the_random_sample_covers_the_truth_as_often_as_it_says(sessions: int, first: int) -> None:
    sampled, reasons, sizes = [], [], []
    for seed in range(300):
        rows, truth = judged(seed, sessions=sessions, first=first)
        quality = {row["query"]: row["outcomes"]["model"]["quality"] for row in rows}
        sample = random_sample(rows)
        assert sample is not None
        sizes.append(len(sample))
        sampled.append(holds([quality[query] for query, _, _ in sample], truth))
        reasons.append(holds([quality[row["query"]] for row in rows if row["picked"] == RANDOM], truth))
    # 300 runs of 95% are within 92.3% and 97.3% nineteen times in twenty.
    assert 0.92 <= np.mean(sampled) <= 0.98
    assert np.mean(reasons) < 0.8, "those that were picked at random alone are too easy"
    assert np.mean(sizes) > 170, "hard ones that the order reaches count"


def test_a_hard_query_is_in_the_sample_if_its_draw_is_below_the_last_random_one() -> None:
    def row(query: str, picked: str, number: float, **more: Any) -> dict[str, Any]:
        return {"query": query, "picked": picked, "draw": number, "outcomes": {"a": {"quality": 1}}, **more}

    rows = [row("hard", "rare", 0.2), row("far", "rare", 0.9), row("random", RANDOM, 0.4, task="t")]
    assert random_sample(rows) == {("hard", "", "a"), ("random", "t", "a")}


def test_after_the_outcomes_grew_the_sample_begins_with_what_the_order_reached_since() -> None:
    def row(query: str, picked: str, number: float, drawn_from: str) -> dict[str, Any]:
        outcomes = {"a": {"quality": 1}}
        return {"query": query, "picked": picked, "draw": number, "drawn_from": drawn_from, "outcomes": outcomes}

    rows = [row("a", "rare", 0.9, "old"), row("b", RANDOM, 0.1, "old"), row("c", RANDOM, 0.5, "old")]
    assert random_sample(rows) == {("b", "", "a"), ("c", "", "a")}
    rows += [row("d", "rare", 0.4, "new")]
    assert random_sample(rows) == frozenset(), "new queries below 0.5 are not judged, but for the hard one"
    rows += [row("e", RANDOM, 0.2, "new")]
    assert random_sample(rows) == {("b", "", "a"), ("e", "", "a")}
    rows += [row("f", RANDOM, 0.45, "new"), row("skipped before", RANDOM, 0.3, "new")]
    assert {query for query, _, _ in random_sample(rows) or ()} == {"b", "d", "e", "f", "skipped before"}


def test_the_population_fingerprint_ignores_order_and_changes_with_any_answer() -> None:
    rows = [("q", "", ["a", "b"]), ("q", "t", ["a"])]
    assert fingerprint(rows) == fingerprint([("q", "t", ["a"]), ("q", "", ["b", "a"])])
    assert len({fingerprint(rows), fingerprint(rows[:1]), fingerprint([rows[0], ("q", "t", ["a", "b"])])}) == 3


@pytest.mark.parametrize(
    "rows",
    [
        [
            {"query": "q", "picked": RANDOM, "draw": 0.1, "outcomes": {"a": {}}},
            {"query": "p", "picked": RANDOM, "outcomes": {"a": {}}},
        ],
        [{"query": "q", "picked": RANDOM, "draw": True, "outcomes": {"a": {}}}],
        [{"query": "q", "draw": 0.1, "model": "a"}],
    ],
)
def test_the_sample_is_unknown_if_a_row_has_no_draw(rows: list[dict[str, Any]]) -> None:
    assert random_sample(rows) is None


def test_before_anything_is_picked_at_random_the_sample_is_empty() -> None:
    assert random_sample([]) == frozenset()
    assert random_sample([{"query": "q", "picked": "rare", "draw": 0.1, "outcomes": {"a": {}}}]) == frozenset()


@pytest.mark.slow
@given(st.text(), st.text(), st.integers(0, 9))
def test_a_draw_depends_on_query_task_and_seed_alone(query: str, task: str, seed: int) -> None:
    found = draw(query, task, seed)
    assert 0 <= found < 1
    assert found == draw(query, task, seed)
    assert found != draw(query, task, seed + 1)
    assert found != draw(query + "x", task, seed)
    assert found != draw("x" + query, task, seed)
    assert (draw(task + query, "", seed) == found) == (not task)


def test_draws_are_spread_evenly() -> None:
    draws = np.sort([draw(f"query {number}", "", 0) for number in range(2000)])
    # Kolmogorov's distance, 1% level.
    assert np.abs(draws - np.arange(2000) / 2000).max() < 1.63 / np.sqrt(2000)

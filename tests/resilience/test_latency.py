from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.resilience import LatencyEstimate, LatencyWindows, seconds_per_token
from semroute.resilience.latency import PROMPT_BOUNDS, quantile


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def observe(windows: LatencyWindows, first_token_s: float | None, *, prompt_tokens: int = 100, **more: object) -> None:
    said: dict[str, object] = {"streaming": True, "per_token_s": 0.01, "total_s": 10.0, **more}
    windows.observe("a", first_token_s=first_token_s, prompt_tokens=prompt_tokens, **said)  # type: ignore[arg-type]


def estimate(windows: LatencyWindows, *, prompt_tokens: int = 100, streaming: bool = True) -> LatencyEstimate:
    found = windows.estimate("a", streaming=streaming, prompt_tokens=prompt_tokens)
    assert found is not None
    return found


def test_nothing_is_said_of_a_deployment_with_too_few_calls() -> None:
    windows = LatencyWindows(clock=Clock())
    assert windows.estimate("a", streaming=True, prompt_tokens=100) is None
    for _ in range(4):
        observe(windows, 1.0)
    assert windows.estimate("a", streaming=True, prompt_tokens=100) is None
    observe(windows, 1.0)
    assert estimate(windows).samples == 5
    assert windows.estimate("b", streaming=True, prompt_tokens=100) is None


def test_latency_is_a_true_quantile_and_no_mean_of_a_few() -> None:
    windows = LatencyWindows(clock=Clock())
    for milliseconds in range(1, 201):
        observe(windows, milliseconds / 1000, per_token_s=milliseconds / 1e5, total_s=milliseconds / 10)
    observe(windows, 1000.0, per_token_s=1000.0, total_s=1000.0)
    found = estimate(windows)
    assert found.first_token_p50_s == pytest.approx(0.101)
    assert found.first_token_p95_s == pytest.approx(0.191)
    assert found.per_token_p50_s == pytest.approx(0.00101)
    assert found.total_p50_s == pytest.approx(10.1)
    assert found.quantile(0.0) == 0.001
    assert found.quantile(1.0) == 1000.0


def test_time_per_output_token_leaves_out_the_time_to_the_first() -> None:
    assert seconds_per_token(3.0, 2.0, 101) == pytest.approx(0.01)
    assert seconds_per_token(2.0, 2.0, 5) == 0.0


@pytest.mark.parametrize(("first_token_s", "tokens"), [(None, 10), (1.0, None), (1.0, 1), (1.0, 0)])
def test_time_per_output_token_is_unknown_without_two_tokens_and_a_first(
    first_token_s: float | None, tokens: int | None
) -> None:
    assert seconds_per_token(3.0, first_token_s, tokens) is None


def test_calls_older_than_the_window_do_not_count() -> None:
    clock = Clock()
    windows = LatencyWindows(window_s=60.0, clock=clock)
    for _ in range(20):
        observe(windows, 1.0)
    clock.now += 30.0
    for _ in range(5):
        observe(windows, 3.0)
    assert estimate(windows).first_token_p50_s == 1.0
    clock.now += 30.0
    assert (estimate(windows).first_token_p50_s, estimate(windows).samples) == (3.0, 5)
    clock.now += 30.0
    assert windows.estimate("a", streaming=True, prompt_tokens=100) is None


def test_only_the_latest_calls_are_kept() -> None:
    windows = LatencyWindows(most=10, clock=Clock())
    for seconds in range(100):
        observe(windows, float(seconds))
    found = estimate(windows)
    assert (found.samples, found.quantile(0.0), found.quantile(1.0)) == (10, 90.0, 99.0)


def test_sizes_and_streaming_are_kept_apart() -> None:
    windows = LatencyWindows(clock=Clock())
    for _ in range(5):
        observe(windows, 1.0, prompt_tokens=PROMPT_BOUNDS[0])
        observe(windows, 2.0, prompt_tokens=PROMPT_BOUNDS[0] + 1)
        observe(windows, 9.0, prompt_tokens=10**6)
        observe(windows, None, streaming=False, per_token_s=None, total_s=7.0)
    assert estimate(windows, prompt_tokens=0).first_token_p50_s == 1.0
    assert estimate(windows, prompt_tokens=PROMPT_BOUNDS[1]).first_token_p50_s == 2.0
    assert estimate(windows, prompt_tokens=10**7).first_token_p50_s == 9.0
    found = estimate(windows, streaming=False)
    assert (found.first_token_p50_s, found.per_token_p50_s, found.total_p50_s) == (None, None, 7.0)
    assert found.quantile(0.5) is None


def test_a_size_that_was_not_seen_takes_the_others_of_its_kind_first() -> None:
    windows = LatencyWindows(clock=Clock())
    for _ in range(5):
        observe(windows, 1.0, prompt_tokens=10)
        observe(windows, None, streaming=False, per_token_s=None, total_s=7.0)
    assert estimate(windows, prompt_tokens=5000).samples == 5
    assert estimate(windows, prompt_tokens=5000).total_p50_s == 10.0
    windows = LatencyWindows(clock=Clock())
    for _ in range(5):
        observe(windows, None, streaming=False, per_token_s=None, total_s=7.0)
    assert estimate(windows, prompt_tokens=5000).total_p50_s == 7.0


def test_times_that_are_none_are_left_out() -> None:
    windows = LatencyWindows(clock=Clock())
    for bad in (float("nan"), float("inf"), -1.0):
        observe(windows, 1.0, total_s=bad)
        observe(windows, bad, per_token_s=bad)
    assert windows.estimate("a", streaming=True, prompt_tokens=100) is None
    for _ in range(5):
        observe(windows, 1.0)
    assert (estimate(windows).samples, estimate(windows).first_token_p50_s) == (8, 1.0)


def test_an_unchanged_window_gives_the_estimate_it_gave() -> None:
    clock = Clock()
    windows = LatencyWindows(clock=clock)
    for _ in range(5):
        observe(windows, 1.0)
    first = estimate(windows)
    clock.now += 1.0
    assert estimate(windows) is first
    observe(windows, 2.0)
    assert estimate(windows) is not first


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.0, 100.0)), min_size=1, max_size=80))
def test_an_estimate_is_that_of_a_list_of_the_window(calls: list[tuple[float, float]]) -> None:
    clock = Clock()
    windows, seen = LatencyWindows(window_s=60.0, most=20, least=1, clock=clock), []
    for step, seconds in calls:
        clock.now += step
        observe(windows, seconds, total_s=seconds)
        seen.append((clock.now, seconds))
        kept = sorted(value for at, value in seen[-20:] if at + 60.0 > clock.now)
        found = estimate(windows)
        assert found.samples == len(kept)
        assert found.first_token_p95_s == quantile(kept, 0.95)
        assert found.total_p50_s == quantile(kept, 0.5)


def test_the_snapshot_names_every_kind_of_call_and_is_ready_for_json() -> None:
    windows = LatencyWindows(clock=Clock())
    for _ in range(5):
        observe(windows, 1.0, prompt_tokens=300)
        observe(windows, 1.0, prompt_tokens=100_000)
    rows = windows.snapshot()
    assert json.loads(json.dumps(rows)) == rows
    assert [(row["streaming"], row["prompt_tokens"]) for row in rows] == [
        (True, "257-1024"),
        (True, "all"),
        (None, "all"),
        (True, "65537+"),
    ]
    assert rows[0]["first_token_p50_s"] == 1.0
    assert windows.snapshot(now=1e6) == []

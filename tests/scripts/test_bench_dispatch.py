from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def windows() -> ModuleType:
    return _part("windows")


@pytest.fixture(scope="module")
def shift() -> ModuleType:
    return _part("shift")


def _part(name: str) -> ModuleType:
    return import_module(f"dispatch_bench.{name}")


moments = st.floats(0, 200, allow_nan=False)
calls = st.lists(st.tuples(moments, st.floats(0, 5), st.integers(1, 100)), min_size=1, max_size=30)


@pytest.mark.slow
@given(calls)
def test_the_fullest_window_never_counts_calls_that_may_lie_further_apart(
    windows: ModuleType, calls: list[tuple[float, float, int]]
) -> None:
    found = windows.fullest([windows.Admission(at, at + took, tokens) for at, took, tokens in calls])
    for latest in (0.0, 0.5, 1.0):  # wherever the gates decided between question and answer
        decided = [(at + latest * took, tokens) for at, took, tokens in calls]
        inside = [[tokens for at, tokens in decided if start <= at < start + 60.0] for start, _ in decided]
        inside += [[tokens for at, tokens in decided if end - 60.0 < at <= end] for end, _ in decided]
        assert found.requests <= max(len(window) for window in inside)
        assert found.tokens <= max(sum(window) for window in inside)


@pytest.mark.slow
@given(st.lists(st.tuples(moments, st.integers(1, 100)), min_size=1, max_size=30))
def test_calls_seen_at_one_moment_are_counted_exactly(windows: ModuleType, calls: list[tuple[float, int]]) -> None:
    found = windows.fullest([windows.Admission(at, at, tokens) for at, tokens in calls])
    inside = [[tokens for at, tokens in calls if start <= at < start + 60.0] for start, _ in calls]
    assert found.requests == max(len(window) for window in inside)
    assert found.tokens == max(sum(window) for window in inside)


def test_what_a_window_held_is_told_for_windows_within_the_run_alone(windows: ModuleType) -> None:
    steady = [windows.Admission(float(second), float(second), 10) for second in range(130)]
    held = windows.used(steady, 0.0, 130.0)
    assert {(most.requests, most.tokens) for most in held} == {(60, 600)}
    assert len(held) == 700


def test_a_share_is_settled_when_it_has_come_nine_tenths_of_the_way(shift: ModuleType) -> None:
    course = [0.5] * 30 + [0.4, 0.3, 0.2] + [0.1] * 60
    assert shift.settled(course, 30, 0.5, 0.1) == 7.0  # 0.2 and four times 0.1: a mean of 0.12, below 0.14
    assert shift.settled([0.5] * 90, 30, 0.5, 0.1) is None


@pytest.mark.slow
def test_a_run_writes_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "results.md"
    command = [sys.executable, str(SCRIPTS / "bench_dispatch.py"), "--only", "a", "--seconds", "4", "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["a"]["semroute"]
    assert figures["requests"] == 200
    assert figures["answered"] == 200
    assert 0 < figures["extra_calls"] < 50  # without a breaker about half of the last 150
    assert "| answered of 200 | semroute | 100.00% | 99.9% | met |" in out.read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_unknown_scenario_is_refused() -> None:
    command = [sys.executable, str(SCRIPTS / "bench_dispatch.py"), "--only", "a,x"]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert "x: there are a, b, c, d" in done.stderr

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.testing.answers import RateLimit, Window

CALLS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40)), min_size=1, max_size=60)


@pytest.mark.slow
@given(CALLS, st.integers(1, 10), st.integers(1, 200))
def test_no_window_ever_holds_more_than_the_limit(calls: list[tuple[float, int]], rpm: int, tpm: int) -> None:
    window, now, taken = Window(RateLimit(rpm, tpm)), 0.0, []
    for wait, tokens in calls:
        now += wait
        if window.take(tokens, now) is None:
            taken.append((now, tokens))
    for end, _ in taken:
        inside = [tokens for at, tokens in taken if end - 60 < at <= end]
        assert len(inside) <= rpm
        assert sum(inside) <= tpm
    assert window.peak[0] <= rpm
    assert window.peak[1] <= tpm


@pytest.mark.slow
@given(CALLS, st.integers(1, 10))
def test_after_the_wait_that_it_names_there_is_room(calls: list[tuple[float, int]], rpm: int) -> None:
    window, now = Window(RateLimit(rpm, 100)), 0.0
    for pause, tokens in calls:
        now += pause
        wait = window.take(tokens, now)
        if wait is not None:
            assert 0 < wait <= 60 + 1e-6
            now += wait + 1e-6
            assert window.take(tokens, now) is None


def test_without_limits_the_peak_is_measured() -> None:
    window = Window(RateLimit(window_s=10))
    assert [window.take(5, at) for at in (0.0, 1.0, 2.0, 30.0)] == [None] * 4
    assert window.peak == (3, 15)


def test_what_never_fits_waits_a_whole_window() -> None:
    assert Window(RateLimit(tpm=5)).take(6, 0.0) == pytest.approx(60)

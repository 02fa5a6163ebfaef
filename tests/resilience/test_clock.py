from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from semroute.resilience.breaker import Wait, longest, until

SHORT, LONG, NEVER = Wait(1.0, "short"), Wait(2.0, "long"), Wait(None, "never")


@given(st.floats(0.0, 1e9), st.floats(0.0, 1e9))
@example(2.0**-53, 1.0 + 2.0**-52)  # the plain difference falls short here
def test_who_waits_until_a_moment_is_there_and_not_a_rounding_error_before(now: float, moment: float) -> None:
    wait = until(moment, now)
    assert now + wait >= moment
    assert wait == 0.0 or now + math.nextafter(wait, 0.0) <= moment


def test_a_moment_that_has_passed_needs_no_wait() -> None:
    assert until(1.0, 2.0) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (None, None, None),
        (SHORT, None, SHORT),
        (None, SHORT, SHORT),
        (SHORT, LONG, LONG),
        (LONG, SHORT, LONG),
        (LONG, NEVER, NEVER),
        (NEVER, LONG, NEVER),
    ],
)
def test_of_two_waits_the_longer_decides(one: Wait | None, other: Wait | None, expected: Wait | None) -> None:
    assert longest(one, other) is expected

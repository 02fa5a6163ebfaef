from __future__ import annotations

import copy
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from semroute.resilience.breaker import ASK_AGAIN_S, Wait
from semroute.resilience.limits import WINDOW_S, Reservation, Throttle


def reserved(throttle: Throttle, now: float, tokens: int = 0) -> Reservation:
    answer = throttle.reserve(now, tokens)
    assert isinstance(answer, Reservation), answer
    return answer


def refused(throttle: Throttle, now: float, tokens: int = 0) -> Wait:
    answer = throttle.reserve(now, tokens)
    assert isinstance(answer, Wait)
    return answer


def test_a_minute_that_lies_across_two_calendar_minutes_keeps_the_limit_too() -> None:
    throttle = Throttle(rpm=10)
    for _ in range(10):
        reserved(throttle, 59.0)
    assert refused(throttle, 61.0).wait_s == 58.0
    reserved(throttle, 119.0)


def test_a_call_as_large_as_the_limit_waits_for_an_empty_window() -> None:
    throttle = Throttle(tpm=100)
    reserved(throttle, 0.0, 1)
    reserved(throttle, 7.0, 1)
    assert refused(throttle, 10.0, 100).wait_s == 57.0
    reserved(throttle, 67.0, 100)


def test_a_call_larger_than_the_limit_is_refused_for_good() -> None:
    wait = refused(Throttle(tpm=100), 0.0, 101)
    assert wait == Wait(None, "a call of 101 tokens is larger than the limit of 100 tokens a minute")


def test_the_longest_of_several_waits_counts() -> None:
    throttle = Throttle(rpm=1, tpm=100, parallel=1)
    reserved(throttle, 0.0, 100)
    throttle.hint(0.0, 30.0)
    assert refused(throttle, 10.0, 1).wait_s == 50.0
    throttle.hint(0.0, 90.0)
    assert refused(throttle, 10.0, 1).wait_s == 80.0
    assert refused(throttle, 89.9, 101).wait_s is None


def test_settling_gives_back_what_was_reserved_too_much_and_takes_what_was_too_little() -> None:
    throttle = Throttle(tpm=100)
    one, two = reserved(throttle, 0.0, 50), reserved(throttle, 1.0, 50)
    throttle.settle(one, 20)
    assert throttle.used(1.0) == (2, 70)
    throttle.settle(two, 90)
    assert throttle.used(1.0) == (2, 110)
    # 10 over the limit: the 20 of the first must leave for the first ten tokens, the 90 for the next.
    assert refused(throttle, 1.0, 10).wait_s == 59.0
    assert refused(throttle, 1.0, 11).wait_s == 60.0


def test_a_second_settling_does_nothing() -> None:
    throttle = Throttle(tpm=100, parallel=1)
    one = reserved(throttle, 0.0, 50)
    throttle.settle(one, 40)
    throttle.settle(one, 0)
    assert (throttle.used(0.0), throttle.in_flight) == ((1, 40), 0)


def test_settling_a_call_that_has_left_the_window_changes_no_sum() -> None:
    throttle = Throttle(tpm=100)
    one = reserved(throttle, 0.0, 50)
    reserved(throttle, 60.0, 30)
    throttle.settle(one, 500)
    assert throttle.used(60.0) == (1, 30)


def test_a_later_hint_never_shortens_an_earlier_one() -> None:
    throttle = Throttle()
    throttle.hint(0.0, 60.0)
    for wait_s in (1.0, 0.0, -5.0, float("nan"), float("inf")):
        throttle.hint(1.0, wait_s)
    assert refused(throttle, 2.0).wait_s == 58.0
    reserved(throttle, 60.0)


def test_the_first_hint_does_not_hold_for_ever() -> None:
    throttle = Throttle()
    throttle.hint(0.0, 60.0)
    throttle.hint(100.0, 1.0)
    assert refused(throttle, 100.0).wait_s == 1.0


def test_a_place_without_limits_keeps_no_log() -> None:
    throttle = Throttle()
    for _ in range(1000):
        throttle.settle(reserved(throttle, 0.0, 10**9))
    assert (throttle.used(0.0), throttle.headroom(0.0, 10**9)) == ((0, 0), 1.0)


@pytest.mark.parametrize("start", [0.0, 1_000.1, 123_456_789.123456])
def test_who_waits_as_long_as_it_says_is_never_sent_away_again(start: float) -> None:
    rng, throttle, now = Random(3), Throttle(rpm=20, tpm=1000), start
    for _ in range(2000):
        tokens = rng.randint(1, 1000)
        wait = throttle.wait(now, tokens)
        if wait is not None and wait.wait_s is not None:
            now += wait.wait_s
        throttle.settle(reserved(throttle, now, tokens), rng.randint(0, tokens))
        now += rng.random() * 0.3


def test_under_pressure_at_least_99_percent_of_the_limit_is_used() -> None:
    rng, throttle, now = Random(3), Throttle(rpm=600, tpm=60_000), 0.0
    log: list[tuple[float, int]] = []
    while now < 600.0:
        tokens = rng.randint(50, 160)
        wait = throttle.wait(now, tokens)
        if wait is not None and wait.wait_s is not None:
            now += wait.wait_s
        reserved(throttle, now, tokens)
        log.append((now, tokens))
    for begin in {at for at, _ in log}:
        window = [tokens for at, tokens in log if begin <= at < begin + WINDOW_S]
        assert len(window) <= 600
        assert sum(window) <= 60_000
    assert sum(tokens for at, tokens in log if at < 600.0) >= 0.99 * 600_000


class ThrottleMachine(RuleBasedStateMachine):
    """Any calls, endings, hints and times against a plain list of what was let through."""

    @initialize(
        rpm=st.none() | st.integers(1, 6),
        tpm=st.none() | st.integers(1, 100),
        parallel=st.none() | st.integers(1, 4),
        start=st.floats(0.0, 1e6),
    )
    def begin(self, rpm: int | None, tpm: int | None, parallel: int | None, start: float) -> None:
        self.throttle = Throttle(rpm, tpm, parallel)
        self.now = start
        # When, tokens as reserved, tokens as they count.
        self.log: list[list[float]] = []
        self.running: list[tuple[Reservation, list[float]]] = []
        self.closed_until = start

    def window(self) -> list[list[float]]:
        return [line for line in self.log if line[0] + WINDOW_S > self.now]

    @rule(seconds=st.one_of(st.floats(0.0, 5.0), st.sampled_from([0.1, 20.0, 60.0])))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(tokens=st.integers(0, 110))
    def a_call_asks(self, tokens: int) -> None:
        answer = self.throttle.reserve(self.now, tokens)
        count, total = len(self.window()), sum(line[2] for line in self.window())
        rpm, tpm, parallel = self.throttle.rpm, self.throttle.tpm, self.throttle.parallel
        fits = (
            self.now >= self.closed_until
            and (rpm is None or count < rpm)
            and (tpm is None or total + tokens <= tpm)
            and (parallel is None or len(self.running) < parallel)
        )
        assert isinstance(answer, Reservation) == fits
        if isinstance(answer, Reservation):
            line = [self.now, tokens, tokens]
            self.log.append(line)
            self.running.append((answer, line))
        else:
            self.check_wait(answer, tokens)

    def check_wait(self, wait: Wait, tokens: int) -> None:
        if wait.wait_s is None:
            assert self.throttle.tpm is not None
            assert tokens > self.throttle.tpm
            return
        assert wait.wait_s > 0
        later = copy.deepcopy(self.throttle)
        later.in_flight = 0
        if self.throttle.parallel is None or len(self.running) < self.throttle.parallel:
            assert copy.deepcopy(self.throttle).wait(self.now + wait.wait_s * 0.999, tokens) is not None
        else:
            assert wait.wait_s >= ASK_AGAIN_S
        assert later.wait(self.now + wait.wait_s, tokens) is None

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 99), share=st.none() | st.sampled_from([0.0, 0.5, 1.0]))
    def a_call_ends(self, which: int, share: float | None) -> None:
        reservation, line = self.running.pop(which % len(self.running))
        if share is not None:
            line[2] = int(line[1] * share)
        self.throttle.settle(reservation, None if share is None else int(line[2]))
        self.throttle.settle(reservation, 10**6)

    @precondition(lambda self: self.running)
    @rule(excess=st.integers(1, 200))
    def a_call_took_more_than_was_reserved(self, excess: int) -> None:
        reservation, line = self.running.pop()
        line[1] += excess
        line[2] = line[1]
        self.throttle.settle(reservation, int(line[2]))

    # Of numbers that are next to nothing a thousandth less is the number itself.
    @rule(wait_s=st.just(0.0) | st.floats(1e-6, 100.0))
    def the_provider_asks_to_wait(self, wait_s: float) -> None:
        self.throttle.hint(self.now, wait_s)
        self.closed_until = max(self.closed_until, self.now + wait_s)

    @invariant()
    def a_hint_is_never_shortened(self) -> None:
        wait = self.throttle.wait(self.now, 0)
        if self.now < self.closed_until:
            assert wait is not None
            assert wait.wait_s is not None
            assert self.now + wait.wait_s >= self.closed_until

    @invariant()
    def it_counts_exactly_what_is_in_the_window(self) -> None:
        if self.throttle.rpm is not None or self.throttle.tpm is not None:
            assert self.throttle.used(self.now) == (len(self.window()), sum(line[2] for line in self.window()))

    @invariant()
    def nothing_leaks(self) -> None:
        assert self.throttle.in_flight == len(self.running)
        later = copy.deepcopy(self.throttle)
        assert later.used(self.now + WINDOW_S + 1.0) == (0, 0)

    @invariant()
    def headroom_is_a_share(self) -> None:
        assert 0.0 <= self.throttle.headroom(self.now, 10) <= 1.0


TestThrottleMachine = ThrottleMachine.TestCase

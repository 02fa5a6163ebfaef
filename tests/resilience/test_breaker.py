from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from semroute.config import BreakerRules
from semroute.resilience.breaker import RAMP_START, Breaker, Ticket
from semroute.types import BreakerState, CallResult

RULES = BreakerRules(jitter=0.0)
# One failed probe opens the breaker again.
STRICT = RULES.model_copy(update={"failure_share": 0.2})
PROBE_ENDINGS = [CallResult.SUCCESS, CallResult.FAILURE, CallResult.NEUTRAL, CallResult.DISABLE]


def entered(breaker: Breaker, now: float) -> Ticket:
    ticket = breaker.acquire(now)
    assert ticket is not None
    return ticket


def opened(rules: BreakerRules = RULES, seed: int = 1) -> Breaker:
    """Open since second 0."""
    breaker = Breaker(rules, Random(seed))
    for _ in range(rules.in_a_row):
        breaker.release(entered(breaker, 0.0), CallResult.FAILURE, 0.0)
    assert breaker.state(0.0) is BreakerState.OPEN
    return breaker


def closed_again(rules: BreakerRules = RULES) -> Breaker:
    """Closed at second 5 after it was open."""
    breaker = opened(rules)
    for _ in range(rules.successes):
        breaker.release(entered(breaker, 5.0), CallResult.SUCCESS, 5.0)
    assert breaker.state(5.0) is BreakerState.CLOSED
    return breaker


def wait_s(breaker: Breaker, now: float) -> float:
    wait = breaker.wait(now)
    assert wait is not None
    assert wait.wait_s is not None
    return wait.wait_s


def test_a_half_open_breaker_lets_two_probes_through() -> None:
    breaker = opened()
    assert breaker.acquire(4.999) is None
    assert [entered(breaker, 5.0).lease for _ in range(2)] == [1, 2]
    assert breaker.acquire(5.0) is None
    assert "2 probes" in breaker.wait(5.0).reason  # type: ignore[union-attr]


@pytest.mark.parametrize("result", PROBE_ENDINGS)
def test_a_probe_gives_its_lease_back_however_it_ends(result: CallResult) -> None:
    breaker = opened(RULES.model_copy(update={"probes": 1, "successes": 9}))
    breaker.release(entered(breaker, 5.0), result, 6.0)
    entered(breaker, 6.0 + 10.0)
    assert breaker.acquire(6.0 + 10.0) is None


def test_a_cancelled_probe_that_nobody_gives_back_does_not_keep_it_half_open() -> None:
    breaker = opened()
    for _ in range(2):
        entered(breaker, 5.0)
    assert breaker.acquire(5.0 + RULES.probe_lease_s - 0.01) is None
    for _ in range(RULES.successes):
        now = 5.0 + RULES.probe_lease_s
        breaker.release(entered(breaker, now), CallResult.SUCCESS, now)
    assert breaker.state(130.0) is BreakerState.CLOSED


def test_a_late_success_does_not_close_an_open_breaker() -> None:
    breaker = Breaker(RULES, Random(1))
    late = [entered(breaker, 0.0) for _ in range(10)]
    for _ in range(5):
        breaker.release(entered(breaker, 0.0), CallResult.FAILURE, 0.0)
    for ticket in late[:5]:
        breaker.release(ticket, CallResult.SUCCESS, 1.0)
    assert breaker.state(1.0) is BreakerState.OPEN
    for ticket in late[5:]:
        breaker.release(ticket, CallResult.SUCCESS, 6.0)
    assert breaker.state(6.0) is BreakerState.HALF_OPEN


def test_a_late_failure_of_a_call_that_is_no_probe_does_not_open_it_again() -> None:
    breaker = Breaker(STRICT, Random(1))
    late = entered(breaker, 0.0)
    for _ in range(5):
        breaker.release(entered(breaker, 0.0), CallResult.FAILURE, 0.0)
    breaker.release(late, CallResult.FAILURE, 6.0)
    assert breaker.state(6.0) is BreakerState.HALF_OPEN
    breaker.release(entered(breaker, 6.0), CallResult.FAILURE, 6.0)
    assert wait_s(breaker, 6.0) == 10.0


def test_the_client_going_away_is_no_failure() -> None:
    breaker = Breaker(RULES, Random(1))
    for _ in range(100):
        breaker.release(entered(breaker, 0.0), CallResult.NEUTRAL, 0.0)
    assert (breaker.state(0.0), breaker.calls(0.0)) == (BreakerState.CLOSED, 0)


def test_a_failure_share_below_the_bar_never_opens_it() -> None:
    breaker = Breaker(RULES, Random(1))
    for number in range(300):
        result = CallResult.FAILURE if number % 10 in (0, 2, 4, 6) else CallResult.SUCCESS
        breaker.release(entered(breaker, number / 10), result, number / 10)
    assert breaker.state(30.0) is BreakerState.CLOSED
    assert breaker.failure_share(30.0) == pytest.approx(0.4, abs=0.02)


def test_a_row_of_failures_counts_however_rare_the_calls() -> None:
    breaker = Breaker(RULES, Random(1))
    for minute in range(5):
        breaker.release(entered(breaker, 60.0 * minute), CallResult.FAILURE, 60.0 * minute)
    assert breaker.state(240.0) is BreakerState.OPEN


def test_traffic_grows_back_evenly_after_it_closed_and_no_call_is_refused_meanwhile() -> None:
    breaker = closed_again()
    assert breaker.ramp(5.0) == RAMP_START
    assert breaker.ramp(20.0) == pytest.approx((RAMP_START + 1.0) / 2)
    assert breaker.wait(20.0) is None
    assert breaker.ramp(35.0) == 1.0


def test_a_ramp_of_no_length_is_over_at_once() -> None:
    assert closed_again(RULES.model_copy(update={"ramp_s": 0.0})).ramp(5.0) == 1.0


def test_after_it_closed_it_opens_for_the_first_time_again() -> None:
    breaker = opened()
    breaker.release(entered(breaker, 5.0), CallResult.FAILURE, 5.0)
    for _ in range(RULES.successes):
        breaker.release(entered(breaker, 15.0), CallResult.SUCCESS, 15.0)
    for _ in range(RULES.in_a_row):
        breaker.release(entered(breaker, 15.0), CallResult.FAILURE, 15.0)
    assert wait_s(breaker, 15.0) == RULES.open_s


@given(st.integers(0, 10_000))
def test_jitter_shortens_the_time_open_by_at_most_its_share(seed: int) -> None:
    assert 4.0 - 1e-9 <= wait_s(opened(BreakerRules(jitter=0.2), seed), 0.0) <= 5.0


def test_replicas_that_opened_together_do_not_probe_together() -> None:
    waits = {wait_s(opened(BreakerRules(), seed), 0.0) for seed in range(50)}
    assert len(waits) == 50


def test_probes_that_succeeded_before_it_opened_again_do_not_count_towards_closing() -> None:
    breaker = opened(STRICT)
    for result in (CallResult.SUCCESS, CallResult.SUCCESS, CallResult.FAILURE):
        breaker.release(entered(breaker, 5.0), result, 5.0)
    for _ in range(RULES.successes - 1):
        breaker.release(entered(breaker, 15.0), CallResult.SUCCESS, 15.0)
    assert breaker.state(15.0) is BreakerState.HALF_OPEN


def test_a_hundred_failed_probes_wait_no_longer_than_the_longest_time() -> None:
    breaker, now = opened(), 0.0
    for _ in range(100):
        now += wait_s(breaker, now)
        for _ in range(RULES.failed_probes):
            breaker.release(entered(breaker, now), CallResult.FAILURE, now)
    assert wait_s(breaker, now) == pytest.approx(RULES.most_open_s)


class BreakerMachine(RuleBasedStateMachine):
    """Any calls, endings and times; what must hold is told from the outside."""

    @initialize(
        probes=st.integers(1, 3),
        successes=st.integers(1, 4),
        in_a_row=st.integers(1, 4),
        least_calls=st.integers(1, 6),
        jitter=st.sampled_from([0.0, 0.5]),
        seed=st.integers(0, 99),
    )
    def begin(self, probes: int, successes: int, in_a_row: int, least_calls: int, jitter: float, seed: int) -> None:
        self.rules = BreakerRules(
            window_s=10.0,
            in_a_row=in_a_row,
            least_calls=least_calls,
            probes=probes,
            successes=successes,
            jitter=jitter,
            open_s=5.0,
            most_open_s=30.0,
            probe_lease_s=20.0,
            ramp_s=10.0,
        )
        self.breaker = Breaker(self.rules, Random(seed))
        self.now = 0.0
        self.running: list[tuple[float, Ticket, bool, int]] = []
        self.era: list[tuple[float, CallResult]] = []
        self.period = 0
        self.failed_rounds = 0
        self.good_probes = 0
        self.bad_probes = 0

    def leased(self) -> int:
        """Probes that are out and have not outstayed their lease."""
        ends = (since + self.rules.probe_lease_s for since, _, is_probe, _ in self.running if is_probe)
        return sum(self.now < end for end in ends)

    def turned(self) -> None:
        """It opened or closed: what began before no longer counts."""
        self.period += 1
        self.era.clear()
        self.good_probes = 0
        self.bad_probes = 0

    @rule(seconds=st.one_of(st.floats(0.0, 2.0), st.sampled_from([5.0, 10.0, 20.0, 30.0])))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def time_passes_until_it_says(self) -> None:
        wait = self.breaker.wait(self.now)
        if wait is not None:
            self.now += wait_s(self.breaker, self.now)
            assert self.breaker.state(self.now) is BreakerState.HALF_OPEN

    @rule()
    def a_call_asks(self) -> None:
        state, leased = self.breaker.state(self.now), self.leased()
        wait = self.breaker.wait(self.now)
        ticket = self.breaker.acquire(self.now)
        assert (ticket is None) == (wait is not None)
        assert (ticket is None) == (
            state is BreakerState.OPEN or (state is BreakerState.HALF_OPEN and leased >= self.rules.probes)
        )
        if ticket is not None:
            is_probe = state is BreakerState.HALF_OPEN
            assert (ticket.lease is not None) == is_probe
            self.running.append((self.now, ticket, is_probe, self.period))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 99), result=st.sampled_from([CallResult.FAILURE] * 3 + PROBE_ENDINGS))
    def a_call_ends(self, which: int, result: CallResult) -> None:
        since, ticket, is_probe, period = self.running.pop(which % len(self.running))
        before, waited = self.breaker.state(self.now), self.breaker.wait(self.now)
        self.breaker.release(ticket, result, self.now)
        after = self.breaker.state(self.now)
        counts = period == self.period and result in (CallResult.SUCCESS, CallResult.FAILURE)
        if is_probe and before is BreakerState.HALF_OPEN:
            self.judge_probe(counts and self.now < since + self.rules.probe_lease_s, result, after)
        elif counts and before is BreakerState.CLOSED:
            self.judge_call(result, after)
        else:
            assert after is before
            assert before is BreakerState.HALF_OPEN or self.breaker.wait(self.now) == waited

    def judge_probe(self, counts: bool, result: CallResult, after: BreakerState) -> None:
        self.bad_probes += counts and result is CallResult.FAILURE
        if self.bad_probes >= self.rules.failed_probes:
            assert after is BreakerState.OPEN
            self.failed_rounds += 1
            longest = min(5.0 * 2**self.failed_rounds, 30.0)
            assert longest * (1 - self.rules.jitter) - 1e-6 <= wait_s(self.breaker, self.now) <= longest + 1e-6
            self.turned()
            return
        self.good_probes += counts and result is CallResult.SUCCESS
        if self.good_probes >= self.rules.successes:
            assert after is BreakerState.CLOSED
            self.failed_rounds = 0
            self.turned()
        else:
            assert after is BreakerState.HALF_OPEN

    def judge_call(self, result: CallResult, after: BreakerState) -> None:
        self.era.append((self.now, result))
        row = 0
        for _, earlier in reversed(self.era):
            if earlier is CallResult.SUCCESS:
                break
            row += 1
        # A bucket is a thirtieth of the window: inside this core every call still counts.
        window = [found for at, found in self.era if at > self.now - self.rules.window_s]
        must = row >= self.rules.in_a_row
        may = must or (len(window) >= self.rules.least_calls and CallResult.FAILURE in window)
        assert after in (BreakerState.CLOSED, BreakerState.OPEN)
        assert not must or after is BreakerState.OPEN
        assert may or after is BreakerState.CLOSED
        if after is BreakerState.OPEN:
            assert wait_s(self.breaker, self.now) <= 5.0 + 1e-6
            self.turned()

    @rule()
    def in_the_end_a_call_is_always_let_through(self) -> None:
        self.now += self.rules.most_open_s + self.rules.probe_lease_s
        self.a_call_asks()
        assert self.running
        assert self.running[-1][0] == self.now

    @invariant()
    def never_more_probes_than_allowed(self) -> None:
        assert self.leased() <= self.rules.probes

    @invariant()
    def what_it_shows_is_in_range(self) -> None:
        assert 0.0 <= self.breaker.failure_share(self.now) <= 1.0
        assert 0.0 <= self.breaker.ramp(self.now) <= 1.0
        core = [at for at, _ in self.era if at > self.now - self.rules.window_s * 29 / 30 + 1e-6]
        whole = [at for at, _ in self.era if at > self.now - self.rules.window_s]
        assert len(core) <= self.breaker.calls(self.now) <= len(whole)


TestBreakerMachine = BreakerMachine.TestCase

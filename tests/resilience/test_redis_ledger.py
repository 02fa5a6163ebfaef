from __future__ import annotations

from semroute.resilience.redis.failover import End, PendingReleases
from semroute.types import CallResult, Endpoint, Permit

PLACE = Endpoint("p", "KEY")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_ended_more_than_a_minute_ago_is_added_up_and_goes() -> None:
    time = Time()
    ledger = PendingReleases(time, 60.0, 3600.0)
    for number in range(10):
        ledger.add(Permit(PLACE, str(number), 100, 0.5))
        assert ledger.end(str(number), lambda now: End(now, CallResult.SUCCESS, 50, 0.25))
    ledger.add(Permit(PLACE, "running", 100, 0.5))
    time.now = 60.0
    assert ledger.spent() == (PLACE, 2.5)
    ledger.told_spent(PLACE, 2.5)
    assert ledger.spent() is None
    found = ledger.first()
    assert found is not None
    assert (found[0].leave.id, found[1], len(ledger)) == ("running", 60.0, 1)
    assert ledger.told("running") is None
    assert not ledger.end("running", lambda now: End(now, CallResult.SUCCESS))


def test_a_line_that_is_being_told_stays_until_it_is_told() -> None:
    time = Time()
    ledger = PendingReleases(time, 60.0, 3600.0)
    ledger.add(Permit(PLACE, "1", 100, 0.5))
    assert ledger.first() is not None
    assert ledger.end("1", lambda now: End(now, CallResult.NEUTRAL, usd=0.5))
    time.now = 61.0
    ledger.add(Permit(PLACE, "2", 100))
    assert ledger.spent() is None
    told = ledger.told("1")
    assert told is not None
    assert (told[0].usd, told[1]) == (0.5, 61.0)


def test_hints_that_hold_and_disabled_credentials_outlast_the_minute() -> None:
    time = Time()
    ledger = PendingReleases(time, 60.0, 3600.0)
    for id, end in (("hint", End(0.0, CallResult.FAILURE, wait_s=90.0)), ("disabled", End(0.0, CallResult.DISABLE))):
        ledger.add(Permit(PLACE, id, 0))
        assert ledger.end(id, lambda now, end=end: end)
    time.now = 89.0
    found = ledger.first()
    assert found is not None
    assert found[0].leave.id == "hint"
    assert ledger.told("hint") is not None
    found = ledger.first()
    assert found is not None
    assert found[0].leave.id == "disabled"


def test_a_pass_that_never_comes_back_goes_with_what_it_reserved() -> None:
    time = Time()
    ledger = PendingReleases(time, 60.0, 3600.0)
    ledger.add(Permit(PLACE, "lost", 100, 0.5))
    time.now = 3600.0
    assert ledger.first() is None
    assert ledger.spent() == (PLACE, 0.5)

from __future__ import annotations

from semroute.resilience.redis.failover import PendingReleases, ReleaseArguments
from semroute.types import CallResult, Endpoint, Permit

PLACE = Endpoint("p", "KEY")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_ended_more_than_a_minute_ago_is_added_up_and_goes() -> None:
    time = Time()
    pending = PendingReleases(time, 60.0, 3600.0)
    for number in range(10):
        pending.add(Permit(PLACE, str(number), 100, 0.5))
        assert pending.end(str(number), lambda now: ReleaseArguments(now, CallResult.SUCCESS, 50, 0.25))
    pending.add(Permit(PLACE, "running", 100, 0.5))
    time.now = 60.0
    assert pending.spent() == (PLACE, 2.5)
    pending.subtract_spent(PLACE, 2.5)
    assert pending.spent() is None
    found = pending.first()
    assert found is not None
    assert (found[0].permit.id, found[1], len(pending)) == ("running", 60.0, 1)
    assert pending.imported("running") is None
    assert not pending.end("running", lambda now: ReleaseArguments(now, CallResult.SUCCESS))


def test_a_line_that_is_being_told_stays_until_it_is_told() -> None:
    time = Time()
    pending = PendingReleases(time, 60.0, 3600.0)
    pending.add(Permit(PLACE, "1", 100, 0.5))
    assert pending.first() is not None
    assert pending.end("1", lambda now: ReleaseArguments(now, CallResult.NEUTRAL, usd=0.5))
    time.now = 61.0
    pending.add(Permit(PLACE, "2", 100))
    assert pending.spent() is None
    told = pending.imported("1")
    assert told is not None
    assert (told[0].usd, told[1]) == (0.5, 61.0)


def test_hints_that_hold_and_disabled_credentials_outlast_the_minute() -> None:
    time = Time()
    pending = PendingReleases(time, 60.0, 3600.0)
    for id, end in (
        ("hint", ReleaseArguments(0.0, CallResult.FAILURE, wait_s=90.0)),
        ("disabled", ReleaseArguments(0.0, CallResult.DISABLE)),
    ):
        pending.add(Permit(PLACE, id, 0))
        assert pending.end(id, lambda now, end=end: end)
    time.now = 89.0
    found = pending.first()
    assert found is not None
    assert found[0].permit.id == "hint"
    assert pending.imported("hint") is not None
    found = pending.first()
    assert found is not None
    assert found[0].permit.id == "disabled"


def test_a_pass_that_never_comes_back_goes_with_what_it_reserved() -> None:
    time = Time()
    pending = PendingReleases(time, 60.0, 3600.0)
    pending.add(Permit(PLACE, "lost", 100, 0.5))
    time.now = 3600.0
    assert pending.first() is None
    assert pending.spent() == (PLACE, 0.5)

from __future__ import annotations

import pytest
from outcomes.log.outcome_rows import outcome
from sqlalchemy import func, select

from semroute.config import Log
from semroute.outcomes.log import OutcomeLog, open_log
from semroute.outcomes.log.database import DAY_S, EVERY_S, PORTION, RetentionJob, prune
from semroute.outcomes.log.schema import calls, checks, feedback, trials

NOW = 1_700_000_000.0


@pytest.mark.slow
def test_expired_outcomes_are_deleted_with_all_their_rows(log: OutcomeLog) -> None:
    for days in range(10):
        log.record(outcome(f"{days} days old", at=NOW - days * DAY_S))
    log.flush()
    log.judge(next(log.outcomes()).id, 1.0)
    assert prune(log._engine, NOW - 4.5 * DAY_S) == 5
    assert [one.query for one in log.outcomes()] == [f"{days} days old" for days in (4, 3, 2, 1, 0)]
    with log._engine.connect() as connection:
        for table, expected in ((calls, 25), (checks, 10), (trials, 10), (feedback, 0)):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == expected


@pytest.mark.slow
def test_the_retention_job_deletes_in_portions_and_then_pauses(log: OutcomeLog) -> None:
    for _ in range(PORTION + 10):
        log.record(outcome(at=NOW - 2 * DAY_S))
    log.flush()
    now = [NOW]
    tidy = RetentionJob(log._engine, 1.0, clock=lambda: now[0])
    counts = []
    for _ in range(3):
        tidy()
        counts.append(log.count()[0])
    assert counts == [10, 0, 0]
    log.record(outcome(at=NOW - 2 * DAY_S))
    log.flush()
    tidy()
    assert log.count()[0] == 1
    now[0] += EVERY_S
    tidy()
    assert log.count()[0] == 0


@pytest.mark.slow
def test_a_written_log_deletes_expired_outcomes(url: str) -> None:
    with open_log(Log(url=url, keep_days="forever"), {}) as log:
        log.record(outcome("old", at=NOW))
    with open_log(Log(url=url, keep_days=30), {}) as log:
        log.record(outcome("new"))
    with open_log(Log(url=url), {}) as log:
        assert [one.query for one in log.outcomes()] == ["new"]

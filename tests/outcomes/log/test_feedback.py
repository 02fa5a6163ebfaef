from __future__ import annotations

from typing import Any

import pytest
from outcomes.log.made import outcome

from semroute.errors import InputError
from semroute.outcomes.log import OutcomeLog


def test_the_latest_judgement_counts(log: OutcomeLog) -> None:
    first, second = outcome(), outcome()
    log.record(first)
    log.record(second)
    log.flush()
    assert log.judge(first.id, 0.0, "no\0pe") == first.id
    assert log.judge(first.id, 0.7) == first.id
    assert {one.id: one.feedback for one in log.outcomes()} == {first.id: 0.7, second.id: None}


def test_the_newest_may_be_called_last_and_a_beginning_of_an_id_is_enough(log: OutcomeLog) -> None:
    first, second = outcome(), outcome()
    log.record(first)
    log.record(second)
    log.flush()
    assert log.judge("last", 1.0) == second.id
    assert log.judge(first.id[:20].upper(), 1.0) == first.id


def test_what_is_meant_must_be_there_and_be_one(log: OutcomeLog) -> None:
    with pytest.raises(InputError, match="the log is empty"):
        log.judge("last", 1.0)
    log.record(outcome())
    log.record(outcome())
    log.flush()
    with pytest.raises(InputError, match="more than one outcome begins with that"):
        log.judge(log.newest(1)[0].id[:5], 1.0)
    with pytest.raises(InputError, match='no outcome begins with "zzz"'):
        log.judge("zzz", 1.0)
    with pytest.raises(InputError, match="which outcome"):
        log.judge(" ", 1.0)
    with pytest.raises(InputError, match='begins with "%"'):
        log.judge("%", 1.0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_judgement_lies_between_0_and_1(log: OutcomeLog, value: float) -> None:
    log.record(outcome())
    log.flush()
    with pytest.raises(InputError, match="a number from 0 to 1"):
        log.judge("last", value)


@pytest.mark.parametrize("given", [("last", "x"), ("last", None), ("last", True), (7, 1.0), ("last", 1.0, b"words")])
def test_a_judgement_of_another_kind_is_our_error(log: OutcomeLog, given: Any) -> None:
    with pytest.raises(InputError):
        log.judge(*given)

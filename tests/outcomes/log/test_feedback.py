from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outcomes.log.outcome_rows import outcome

from semroute.config import Config, Log
from semroute.errors import InputError
from semroute.outcomes.log import OutcomeLog, open_log
from semroute.router import Router
from semroute.testing import FakeProvider


@pytest.mark.slow
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


def test_an_id_prefix_must_match_exactly_one_outcome(log: OutcomeLog) -> None:
    with pytest.raises(InputError, match="the log is empty"):
        log.judge("last", 1.0)
    log.record(outcome())
    log.record(outcome())
    log.flush()
    with pytest.raises(InputError, match="more than one outcome begins with that"):
        log.judge(log.newest(1)[0].id[:5], 1.0)
    with pytest.raises(InputError, match='no outcome begins with "zzz"'):
        log.judge("zzz", 1.0)
    with pytest.raises(InputError, match="no outcome is named"):
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
def test_feedback_of_a_wrong_type_is_an_input_error(log: OutcomeLog, given: Any) -> None:
    with pytest.raises(InputError):
        log.judge(*given)


@pytest.fixture
def router(url: str, routing_index: Path) -> Iterator[Router]:
    """A router that logs to a database of either kind."""
    with FakeProvider() as provider:
        place = {"name": "small-1", "model": "small", "base_url": provider.base_url}
        settings = {"deployments": [place], "log": {"enabled": True, "url": url}}
        opened = Router.load(routing_index, config=Config.model_validate(settings))
        yield opened
        opened.close()


def _judged(url: str) -> dict[str, float | None]:
    with open_log(Log(url=url, keep_days="forever"), {}) as opened:
        return {one.id: one.feedback for one in opened.outcomes()}


@pytest.mark.slow
def test_code_gives_feedback_at_once_on_an_answer_that_it_has_just_got(router: Router, url: str) -> None:
    completion = router.complete("recipe for carrot soup")
    assert router.feedback(completion.outcome_id, 0.25, "too salty") == completion.outcome_id
    other = router.complete("how long do I boil an egg")
    assert asyncio.run(router.afeedback(other.outcome_id, 1)) == other.outcome_id
    assert _judged(url) == {completion.outcome_id: 0.25, other.outcome_id: 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan"), float("inf"), True, "good", None])
def test_a_quality_out_of_range_is_refused_and_nothing_is_kept(router: Router, url: str, quality: Any) -> None:
    completion = router.complete("recipe for carrot soup")
    with pytest.raises(InputError, match="from 0 to 1"):
        router.feedback(completion.outcome_id, quality)
    assert _judged(url) == {completion.outcome_id: None}


@pytest.mark.slow
def test_an_outcome_that_was_not_logged_is_refused(router: Router) -> None:
    with pytest.raises(InputError, match='no outcome begins with "0000"'):
        router.feedback("0000", 1.0)
    completion = router.complete("recipe for carrot soup", log=False)
    with pytest.raises(InputError, match="nothing was logged of it"):
        router.feedback(completion.outcome_id, 1.0)

"""A check that fails loses neither a paid answer nor the next tier."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from semroute.cascade.acceptance import Acceptance, acceptance_of, score
from semroute.cascade.cascade import Cascade
from semroute.cascade.checks import Check, CheckInput, agreement, can_stream_early
from semroute.config.cascade import Accept, CascadeConfig
from semroute.testing import FakeProvider, answer
from semroute.types import CheckResult, Completion, Delta, Request, TokenLogprob

REQUEST = Request(({"role": "user", "content": "how many?"},))


class Panic(BaseException):
    """As an extension written in Rust raises it."""


class Failing:
    """Raises what it is given, with a secret in its words."""

    name = "failing"
    wants_logprobs = False

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def judge(self, answered: CheckInput) -> CheckResult:
        raise self._error


class Rejecting:
    name = "rejecting"
    wants_logprobs = False

    async def judge(self, answered: CheckInput) -> CheckResult:
        return CheckResult(self.name, False, "no")


class Broken:
    """A classifier of answers that fails, or measures what is no number."""

    threshold = 0.5
    wants_logprobs = False

    def __init__(self, found: float | Exception) -> None:
        self._found = found

    def probability(self, query: str, text: str, logprobs: Sequence[float]) -> float:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def answered(text: str = "twelve", **more: Any) -> CheckInput:
    return CheckInput("how many?", REQUEST, Completion(text, "small", "s", "s", "stop", None, 1.0, **more), None)


def judged(*checks: Check, of: CheckInput | None = None) -> tuple[CheckResult, ...]:
    return asyncio.run(Acceptance(checks).judge(of or answered()))


@pytest.mark.parametrize("error", [KeyError("sk-secret"), RecursionError(), MemoryError(), Panic("sk-secret")])
def test_whatever_a_check_raises_the_others_judge(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "semroute"):
        skipped, rejected = judged(Failing(error), Rejecting())
    assert (skipped.accepted, skipped.skipped, rejected.accepted) == (True, True, False)
    assert type(error).__name__ in skipped.reason
    assert "cannot be checked" in skipped.reason
    assert len(caplog.records) == 1
    assert "sk-secret" not in caplog.text + skipped.reason


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_query_that_is_cancelled_is_not_kept_by_a_check(error: BaseException) -> None:
    with pytest.raises(type(error)):
        asyncio.run(Failing(error).judge(answered()))
    with pytest.raises(type(error)):
        judged(Failing(error))


def test_a_check_that_was_skipped_has_no_part_in_the_score_of_an_answer() -> None:
    made = CheckResult("quality", True, "good", 0.8, 0.5)
    assert score([CheckResult("format", True, "cannot be checked", skipped=True), made]) == 0.8
    assert score([CheckResult("format", True, "cannot be checked", skipped=True)]) == 1.0


@pytest.mark.parametrize("found", [OSError("gone"), math.nan])
def test_a_classifier_that_fails_is_skipped(found: float | Exception) -> None:
    accept = Accept.model_validate({"quality": "dir"})
    verdicts = asyncio.run(acceptance_of(accept, lambda folder: Broken(found)).judge(answered()))
    assert [(one.check, one.accepted, one.skipped) for one in verdicts] == [
        ("format", True, False),
        ("quality", True, True),
    ]


@pytest.mark.parametrize("values", [[math.nan], [math.inf, -math.inf]])
def test_log_probabilities_that_are_no_numbers_are_no_confidence(values: list[float]) -> None:
    tokens = tuple(TokenLogprob("x", value) for value in values)
    accept = Accept.model_validate({"format": False, "confidence": 0.9})
    (verdict,) = asyncio.run(acceptance_of(accept).judge(answered(logprobs=tokens)))
    assert verdict.skipped
    assert not can_stream_early([Delta("x", tokens)], 1, 0.9)


def test_a_part_of_the_form_that_cannot_be_looked_at_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> str:
        raise LookupError(text)

    monkeypatch.setattr("semroute.cascade.format.detect_language", broken)
    accept = acceptance_of(Accept.model_validate({"format": {"language": "en", "pattern": "####"}}))
    (verdict,) = asyncio.run(accept.judge(answered("twelve #### 12")))
    assert verdict.skipped
    assert "its language cannot be checked (LookupError" in verdict.reason
    (verdict,) = asyncio.run(accept.judge(answered("twelve")))
    assert (verdict.accepted, verdict.reason) == (False, "the required pattern is not in it")


def test_the_next_tier_is_reached_beside_a_check_that_fails(provider: FakeProvider, bench: Any) -> None:
    provider.script(answer(""), answer("twelve"))
    config = bench.config({"tiers": ["small", "large"], "accept": {"quality": "dir"}})

    async def ask(dispatcher: Any) -> Completion:
        cascade = Cascade.of(CascadeConfig.model_validate(config.cascade.model_dump(by_alias=True)), _broken)
        from semroute.dispatch import Constraints
        from semroute.router.query import ConstrainedClient

        client = ConstrainedClient(dispatcher, Constraints())
        return await cascade.run("how many?", REQUEST, client, deadline_s=60)

    completion = bench.run(config, ask)
    assert (completion.text, completion.tier) == ("twelve", 1)
    assert [check.skipped for check in completion.tiers[1].checks] == [False, True]


def _broken(folder: Path) -> Broken:
    return Broken(OSError("gone"))


@pytest.mark.slow
def test_answers_are_compared_in_time_linear_in_their_white_space() -> None:
    spaces = "the answer is" + " " * 400_000 + "none"
    started = time.thread_time()
    agreement(spaces, spaces + "x")
    # The quadratic pattern takes minutes.
    assert time.thread_time() - started < 5

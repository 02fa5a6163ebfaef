from __future__ import annotations

import asyncio
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cascade.checks import Check, CheckInput, ConfidenceCheck, ConsistencyCheck, confidence
from semroute.types import CheckResult, Completion, Request, TokenLogprob, ToolCall


def tokens(*logprobs: float) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob("x", value) for value in logprobs)


def completion(text: str = "twelve", logprobs: tuple[TokenLogprob, ...] | None = None, calls: int = 0) -> Completion:
    made = tuple(ToolCall(str(number), "clock", "{}") for number in range(calls))
    return Completion(text, "small", "small-1", "m", "stop", None, 1.0, logprobs=logprobs, tool_calls=made)


def judged(
    answer: Completion, threshold: float, instead: Check | Literal["accept", "escalate"] = "accept"
) -> CheckResult:
    async def second(_: float) -> Completion | None:
        return completion("eleven")

    answered = CheckInput("how many?", Request(({"role": "user", "content": "how many?"},)), answer, second)
    return asyncio.run(ConfidenceCheck(threshold, instead).judge(answered))


def test_it_is_the_geometric_mean_of_the_tokens_probabilities() -> None:
    assert confidence(tokens(math.log(0.9), math.log(0.4))) == pytest.approx(0.6)


@pytest.mark.slow
@given(st.lists(st.floats(min_value=-9999, max_value=0), min_size=1, max_size=300))
def test_it_lies_between_the_least_and_the_most_likely_token(values: list[float]) -> None:
    measured = confidence(tokens(*values))
    assert math.exp(min(values)) * (1 - 1e-9) <= measured <= math.exp(max(values)) * (1 + 1e-9)


def test_without_tokens_there_is_none() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        confidence(())


@pytest.mark.parametrize(("probability", "accepted"), [(0.86, True), (0.84, False)])
def test_the_seeds_rule_accepts_from_85_percent_on(probability: float, accepted: bool) -> None:
    said = judged(completion(logprobs=tokens(*[math.log(probability)] * 5)), 0.85)
    assert said.accepted is accepted
    assert said.score == pytest.approx(probability)
    assert said.threshold == 0.85


def test_a_threshold_of_zero_is_a_threshold() -> None:
    said = judged(completion(logprobs=tokens(-9999.0)), 0.0)
    assert (said.accepted, said.threshold) == (True, 0.0)


@pytest.mark.parametrize(("instead", "accepted"), [("accept", True), ("escalate", False)])
def test_without_logprobs_the_configuration_says_what_is_done(
    instead: Literal["accept", "escalate"], accepted: bool
) -> None:
    said = judged(completion(), 0.85, instead)
    assert said.accepted is accepted
    assert "no log probabilities" in said.reason


def test_without_logprobs_another_check_can_stand_in() -> None:
    said = judged(completion("twelve"), 0.85, ConsistencyCheck(0.7, 0.7))
    assert (said.check, said.accepted) == ("consistency", False)


def test_a_call_of_a_tool_has_none_and_is_accepted() -> None:
    assert judged(completion("", calls=1), 0.85, "escalate").accepted

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from semroute.cascade.acceptance import acceptance_of
from semroute.cascade.checks import CheckInput, QualityCheck
from semroute.config.cascade import Accept
from semroute.errors import ArtifactError, ConfigError
from semroute.predictors.answer_quality import read_classifier
from semroute.types import Completion, Request, TokenLogprob, ToolCall

REQUEST = Request(({"role": "user", "content": "how many?"},))


@dataclass
class Words:
    """A scorer that goes by the length of an answer, and notes what it was shown."""

    threshold: float = 0.5
    wants_logprobs: bool = False
    shown: list[tuple[str, str, list[float]]] = field(default_factory=list)

    def probability(self, query: str, answer: str, logprobs: Sequence[float] = ()) -> float:
        self.shown.append((query, answer, list(logprobs)))
        return min(1.0, len(answer) / 10)


def answered(text: str, **more: Any) -> CheckInput:
    return CheckInput("how many?", REQUEST, Completion(text, "small", "s", "s", "stop", None, 1.0, **more), None)


def test_the_classifiers_own_threshold_holds_unless_another_is_given() -> None:
    scorer = Words(threshold=0.4)
    checked = asyncio.run(QualityCheck(scorer, None).judge(answered("twelve")))
    assert (checked.check, checked.accepted, checked.score, checked.threshold) == ("quality", True, 0.6, 0.4)
    checked = asyncio.run(QualityCheck(scorer, 0.7).judge(answered("twelve")))
    assert not checked.accepted
    assert checked.reason == "probability of a good answer 0.600 is below 0.7"


def test_it_is_shown_query_answer_and_log_probabilities() -> None:
    scorer = Words(wants_logprobs=True)
    check = QualityCheck(scorer, None)
    assert check.wants_logprobs
    asyncio.run(check.judge(answered("twelve", logprobs=(TokenLogprob("twelve", -0.25),))))
    assert scorer.shown == [("how many?", "twelve", [-0.25])]


def test_a_call_of_a_tool_is_not_classified() -> None:
    called = answered("", tool_calls=(ToolCall("1", "f", "{}"),))
    assert asyncio.run(QualityCheck(Words(threshold=1.0), None).judge(called)).accepted


def test_it_stands_in_only_where_there_are_no_log_probabilities() -> None:
    accept = Accept.model_validate(
        {"format": False, "confidence": 0.85, "quality": "dir", "without_logprobs": "quality"}
    )
    scorer = Words()
    acceptance = acceptance_of(accept, lambda _: scorer)
    sure = answered("no", logprobs=(TokenLogprob("no", math.log(0.9)),))
    assert [check.check for check in asyncio.run(acceptance.judge(sure))] == ["confidence"]
    assert scorer.shown == []
    (checked,) = asyncio.run(acceptance.judge(answered("no")))
    assert (checked.check, checked.accepted) == ("quality", False)


def test_otherwise_it_is_a_check_beside_the_others() -> None:
    accept = Accept.model_validate({"confidence": 0.85, "quality": {"classifier": "dir", "threshold": 0.3}})
    acceptance = acceptance_of(accept, lambda _: Words())
    sure = answered("twelve", logprobs=(TokenLogprob("twelve", math.log(0.9)),))
    assert [check.check for check in asyncio.run(acceptance.judge(sure))] == ["format", "quality", "confidence"]


def test_a_classifier_that_is_not_there_is_an_error_and_no_silent_pass() -> None:
    accept = Accept.model_validate({"quality": "nowhere"})
    with pytest.raises(ArtifactError, match="semroute train-checks"):
        acceptance_of(accept, read_classifier)
    with pytest.raises(ConfigError, match="nowhere"):
        acceptance_of(accept)


@pytest.mark.parametrize(
    "wrong",
    [{"without_logprobs": "quality", "confidence": 0.8}, {"quality": {"threshold": 0.5}}, {"quality": 3}],
)
def test_a_section_without_its_classifier_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"classifier|valid"):
        Accept.model_validate(wrong)


def test_the_short_form_is_the_folder() -> None:
    accept = Accept.model_validate({"quality": ".semroute/checks"})
    assert accept.quality is not None
    assert (accept.quality.classifier, accept.quality.threshold) == (Path(".semroute/checks"), None)

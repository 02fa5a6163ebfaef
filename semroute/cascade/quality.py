"""A trained classifier of query and answer as a check: no further call is made."""

from __future__ import annotations

import math

from semroute.cascade.check import CheckInput, UncheckableError
from semroute.types import AnswerScorer, CheckResult


class QualityCheck:
    """Accepts from a probability on that the answer is acceptable.

    Args:
        scorer: the classifier.
        threshold: least probability; None: the classifier's own.
    """

    name = "quality"

    def __init__(self, scorer: AnswerScorer, threshold: float | None) -> None:
        self._scorer = scorer
        self._threshold = scorer.threshold if threshold is None else threshold
        self.wants_logprobs = scorer.wants_logprobs

    async def judge(self, answered: CheckInput) -> CheckResult:
        """The verdict; it takes less than a millisecond, so the event loop does not wait for it noticeably."""
        completion = answered.completion
        if completion.tool_calls and not completion.text:
            return CheckResult(self.name, True, "a call of a tool is not classified")
        logprobs = [token.logprob for token in completion.logprobs or ()]
        measured = self._scorer.probability(answered.text, completion.text, logprobs)
        if math.isnan(measured):
            raise UncheckableError("the classifier gave no number")
        accepted = measured >= self._threshold
        sign = "reaches" if accepted else "is below"
        reason = f"probability of a good answer {measured:.3f} {sign} {self._threshold:g}"
        return CheckResult(self.name, accepted, reason, measured, self._threshold)

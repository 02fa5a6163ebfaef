"""Confidence from the log probabilities of an answer's tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from semroute.cascade.check import Check, CheckInput, UncheckableError
from semroute.types import CheckResult, TokenLogprob


def confidence(logprobs: Sequence[TokenLogprob]) -> float:
    """``exp(mean(log p))``: the geometric mean of the tokens' probabilities, 0 to 1; the inverse of perplexity.

    See Jurafsky and Martin, Speech and Language Processing, 3rd ed., 3.3. Servers write a probability of 0 as a large
    negative number (OpenAI: -9999), which counts as it is.

    Raises:
        ValueError: there are no tokens, or one's probability is not a number.
    """
    if not logprobs:
        raise ValueError("no tokens")
    mean = math.fsum(token.logprob for token in logprobs) / len(logprobs)
    if math.isnan(mean):  # min() would take it for a probability of 1
        raise ValueError("a log probability is not a number")
    return math.exp(min(0.0, mean))


class ConfidenceCheck:
    """Accepts from a confidence on.

    Args:
        threshold: least confidence.
        instead: what judges where there are no log probabilities: another check, or a verdict.
    """

    name = "confidence"
    wants_logprobs = True

    def __init__(self, threshold: float, instead: Check | Literal["accept", "escalate"]) -> None:
        self._threshold = threshold
        self._instead = instead

    async def judge(self, answered: CheckInput) -> CheckResult:
        """The verdict by log probabilities, or by what stands in for them."""
        logprobs = answered.completion.logprobs
        if logprobs:
            try:
                measured = confidence(logprobs)
            except (ValueError, OverflowError):
                raise UncheckableError("the log probabilities are not numbers") from None
            accepted = measured >= self._threshold
            sign = "reaches" if accepted else "is below"
            reason = f"confidence {measured:.3f} {sign} {self._threshold:g}"
            return CheckResult(self.name, accepted, reason, measured, self._threshold)
        if answered.completion.tool_calls and not answered.completion.text:
            return CheckResult(self.name, True, "a call of a tool has no log probabilities to judge by")
        if self._instead == "accept":
            return CheckResult(self.name, True, "the model gave no log probabilities, and that is taken as accepted")
        if self._instead == "escalate":
            return CheckResult(self.name, False, "the model gave no log probabilities, and that is taken as rejected")
        return await self._instead.judge(answered)

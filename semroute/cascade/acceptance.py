"""From the configuration to the checks that an answer has to pass, and from their verdicts to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from semroute.cascade.check import Answered, Check
from semroute.cascade.confidence import ConfidenceCheck
from semroute.cascade.consistency import ConsistencyCheck
from semroute.cascade.format import FormatCheck
from semroute.config.cascade import Accept
from semroute.types import Checked

USUAL_AGREEMENT = 0.7
"""Asked of two answers that stand in for log probabilities, where the configuration names no agreement."""


class Acceptance:
    """Checks in the order in which they are made: those that cost nothing first, and none after a rejection.

    Attributes:
        wants_logprobs: whether a check needs log probabilities.
        least_confidence: confidence that is asked for; None where none is.
    """

    def __init__(self, checks: Sequence[Check], least_confidence: float | None = None) -> None:
        self._checks = tuple(checks)
        self.least_confidence = least_confidence
        self.wants_logprobs = any(check.wants_logprobs for check in checks)

    async def judge(self, answered: Answered) -> tuple[Checked, ...]:
        """The verdicts up to the first rejection."""
        verdicts: list[Checked] = []
        for check in self._checks:
            verdicts.append(await check.judge(answered))
            if not verdicts[-1].accepted:
                break
        return tuple(verdicts)


def acceptance_of(accept: Accept) -> Acceptance:
    """The checks that a section ``accept`` asks for.

    Raises:
        MissingExtraError: one of them needs an extra that is not installed.
    """
    checks: list[Check] = []
    if accept.format is not None:
        checks.append(FormatCheck(accept.format))
    agreement = USUAL_AGREEMENT if accept.consistency is None else accept.consistency
    consistency = ConsistencyCheck(agreement, accept.sample_temperature)
    if accept.confidence is not None:
        instead: Check | Literal["accept", "escalate"] = (
            consistency if accept.without_logprobs == "consistency" else accept.without_logprobs
        )
        checks.append(ConfidenceCheck(accept.confidence, instead))
    if accept.consistency is not None:
        checks.append(consistency)
    return Acceptance(checks, accept.confidence)


def score(checks: Sequence[Checked]) -> float:
    """How good an answer is by its verdicts, 0 to 1: the least of them, a bare verdict being 0 or 1.

    Verdicts are about different faults, and an answer is as good as its worst side.
    """
    return min((float(check.accepted) if check.score is None else check.score for check in checks), default=1.0)


def said(checks: Sequence[Checked]) -> str:
    """The verdict in words: why it was rejected, or what it has passed."""
    if not checks:
        return "nothing is checked"
    rejected = [check.reason for check in checks if not check.accepted]
    return "; ".join(rejected) if rejected else "; ".join(check.reason for check in checks)

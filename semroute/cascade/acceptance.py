"""From the configuration to the checks that an answer has to pass, and from their verdicts to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from semroute.cascade.check import Check, CheckInput, UncheckableError, unforeseen
from semroute.config.cascade import Accept, Unmeasured
from semroute.errors import ArtifactError, ConfigError
from semroute.types import AnswerScorer, CheckResult

ScorerOf: TypeAlias = Callable[[Path], AnswerScorer]
"""Reads the classifier of a folder."""

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

    async def judge(self, answered: CheckInput) -> tuple[CheckResult, ...]:
        """The verdicts up to the first rejection.

        A check that fails is skipped, whatever it raises: the answer is paid for, and other checks and tiers are there.
        """
        verdicts: list[CheckResult] = []
        for check in self._checks:
            verdicts.append(await _verdict(check, answered))
            if not verdicts[-1].accepted:
                break
        return tuple(verdicts)


async def _verdict(check: Check, answered: CheckInput) -> CheckResult:
    from asyncio import CancelledError

    try:
        return await check.judge(answered)
    except UncheckableError as error:
        reason = f"it cannot be checked ({error})"
    except (CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    # Not only Exception: a panic of an extension written in Rust is a BaseException.
    except BaseException as error:
        reason = f"it cannot be checked ({unforeseen(error)})"
    return CheckResult(check.name, True, reason, skipped=True)


def no_scorer(folder: Path) -> AnswerScorer:
    """For a cascade whose configuration names no classifier."""
    raise ConfigError(f"nothing here reads the classifier {folder}", key="cascade.accept.quality")


def acceptance_of(accept: Accept, scorer_of: ScorerOf = no_scorer) -> Acceptance:
    """The checks that a section ``accept`` asks for.

    Args:
        accept: the section.
        scorer_of: reads the classifier of a folder.

    Raises:
        MissingExtraError: one of them needs an extra that is not installed.
        ArtifactError: a classifier cannot be read.
    """
    # Known only where a cascade has tiers: most decisions need none of them.
    from semroute.cascade.confidence import ConfidenceCheck
    from semroute.cascade.consistency import ConsistencyCheck
    from semroute.cascade.format import FormatCheck
    from semroute.cascade.quality import QualityCheck

    checks: list[Check] = []
    if accept.format is not None:
        checks.append(FormatCheck(accept.format))
    quality = None
    if accept.quality is not None:
        try:
            scorer = scorer_of(accept.quality.classifier)
        except ArtifactError as error:
            raise ArtifactError(f"cascade.accept.quality: {error}") from error
        quality = QualityCheck(scorer, accept.quality.threshold)
        if not accept.asks_quality_instead:
            checks.append(quality)
    agreement = USUAL_AGREEMENT if accept.consistency is None else accept.consistency
    consistency = ConsistencyCheck(agreement, accept.sample_temperature)
    if accept.confidence is not None:
        checks.append(ConfidenceCheck(accept.confidence, _instead(accept.without_logprobs, consistency, quality)))
    if accept.consistency is not None:
        checks.append(consistency)
    return Acceptance(checks, accept.confidence)


def _instead(named: Unmeasured, consistency: Check, quality: Check | None) -> Check | Literal["accept", "escalate"]:
    if named == "consistency":
        return consistency
    if named == "quality":
        assert quality is not None  # the configuration has been checked
        return quality
    return named


def score(checks: Sequence[CheckResult]) -> float:
    """How good an answer is by its verdicts, 0 to 1: the least of them, a bare verdict being 0 or 1.

    Verdicts are about different faults, and an answer is as good as its worst side. What was skipped says nothing.
    """
    made = [check for check in checks if not check.skipped]
    return min((float(check.accepted) if check.score is None else check.score for check in made), default=1.0)


def said(checks: Sequence[CheckResult]) -> str:
    """The verdict in words: why it was rejected, or what it has passed."""
    if not checks:
        return "nothing is checked"
    rejected = [check.reason for check in checks if not check.accepted]
    return "; ".join(rejected) if rejected else "; ".join(check.reason for check in checks)

"""Acceptance of an answer: the configured checks and their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from semroute.cascade.checks import Check, CheckInput, UncheckableError, unforeseen
from semroute.config.cascade import Accept, Unmeasured
from semroute.errors import ArtifactError, ConfigError
from semroute.types import AnswerScorer, CheckResult

ScorerOf: TypeAlias = Callable[[Path], AnswerScorer]
"""Function that reads the quality classifier in a folder."""

USUAL_AGREEMENT = 0.7
"""Default agreement threshold of the consistency check that replaces missing log probabilities."""


class Acceptance:
    """Checks of an answer in order: free ones first, none after a rejection.

    Attributes:
        wants_logprobs: True if a check needs log probabilities.
        least_confidence: confidence threshold; None if there is none.
        asked_at_once: other models that are asked together with the tier's own.
    """

    def __init__(
        self, checks: Sequence[Check], least_confidence: float | None = None, asked_at_once: Sequence[str] = ()
    ) -> None:
        self._checks = tuple(checks)
        self.least_confidence = least_confidence
        self.asked_at_once = tuple(asked_at_once)
        self.wants_logprobs = any(check.wants_logprobs for check in checks)

    async def judge(self, answered: CheckInput) -> tuple[CheckResult, ...]:
        """Return the check results up to the first rejection.

        A check that fails is skipped, whatever it raises: the answer is paid for, and other checks and tiers remain.
        """
        results: list[CheckResult] = []
        for check in self._checks:
            results.append(await _result(check, answered))
            if not results[-1].accepted:
                break
        return tuple(results)


async def _result(check: Check, answered: CheckInput) -> CheckResult:
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
    """Fail to read a classifier: default for a cascade without one."""
    raise ConfigError(f"nothing here reads the classifier {folder}", key="cascade.accept.quality")


def acceptance_of(accept: Accept, scorer_of: ScorerOf = no_scorer, use: str | None = None) -> Acceptance:
    """Return the checks configured by a section ``accept``.

    Args:
        accept: the section.
        scorer_of: function that reads the classifier in a folder.
        use: model or group of the tier; it is compared if it is one of those that must agree.

    Raises:
        MissingExtraError: one of them needs an extra that is not installed.
        ArtifactError: a classifier cannot be read.
        PluginError: the check of a plugin cannot be made.
    """
    # Imported only for a cascade with tiers: most decisions need none of them.
    from semroute.cascade.checks import AgreementCheck, ConfidenceCheck, ConsistencyCheck, QualityCheck, plugin_check
    from semroute.cascade.format import FormatCheck

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
    checks += [plugin_check(section.plugin, section.options) for section in accept.plugin_checks]
    others = [name for name in accept.agreement or () if name != use] if use in (accept.agreement or ()) else []
    if others:
        checks.append(AgreementCheck(others))
    if accept.consistency is not None:  # last, since it costs a call
        checks.append(consistency)
    return Acceptance(checks, accept.confidence, others if accept.agreement_at_once else ())


def _instead(named: Unmeasured, consistency: Check, quality: Check | None) -> Check | Literal["accept", "escalate"]:
    if named == "consistency":
        return consistency
    if named == "quality":
        assert quality is not None  # the configuration has been checked
        return quality
    return named


def score(checks: Sequence[CheckResult]) -> float:
    """Return the least check score, 0 to 1.

    A result without score counts 0 or 1.

    Checks look for different faults, so the worst one decides. Skipped checks are ignored.
    """
    made = [check for check in checks if not check.skipped]
    return min((float(check.accepted) if check.score is None else check.score for check in made), default=1.0)


def said(checks: Sequence[CheckResult]) -> str:
    """Format the check results: reason of rejection, or checks passed."""
    if not checks:
        return "nothing is checked"
    rejected = [check.reason for check in checks if not check.accepted]
    return "; ".join(rejected) if rejected else "; ".join(check.reason for check in checks)

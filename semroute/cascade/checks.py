"""What a check is shown of an answer, and what it has to say."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Literal, Protocol, TypeAlias

from semroute.cascade.refusals import refusal_in
from semroute.errors import SemrouteError
from semroute.types import AnswerScorer, CheckResult, Completion, Delta, Request, TokenLogprob

log = logging.getLogger("semroute")

Sampler: TypeAlias = Callable[[float], Awaitable[Completion | str]]
"""Draws one more answer of the same tier at a temperature, and accounts for it; the reason where there is none."""


@dataclass(frozen=True, slots=True)
class CheckInput:
    """An answer, and what it answers.

    Attributes:
        text: the routed text of the query.
        request: all that was asked.
        completion: the answer.
        sample: draws another one; None where none is to be drawn, since no tier could follow a rejection.
    """

    text: str
    request: Request
    completion: Completion
    sample: Sampler | None


class UncheckableError(Exception):
    """A check cannot be made; the message is shown. Never leaves the cascade: the other checks judge the answer."""


class Check(Protocol):
    """Judges answers. Safe to share between requests.

    Attributes:
        name: of the check, in verdicts.
        wants_logprobs: whether the tier should be asked for log probabilities.
    """

    name: str
    wants_logprobs: bool

    async def judge(self, answered: CheckInput) -> CheckResult:
        """The verdict; a check that cannot tell says so in its reason, and raises for nothing that a model does.

        Raises:
            UncheckableError: it cannot be made.
        """
        ...


def unforeseen(error: BaseException) -> str:
    """Log a check's error that nobody expected, and describe it; foreign words may repeat an answer or a key."""
    if isinstance(error, SemrouteError):
        words = str(error)
    else:
        frames = extract_tb(error.__traceback__)
        where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
        words = f"{type(error).__name__}{where}"
    log.warning("a check of an answer failed, and the others judge without it: %s", words)
    return words


# Confidence from the log probabilities of an answer's tokens.


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


# Self-consistency: a model that answers otherwise when asked again was guessing.
#
# Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (ICLR 2023), and, for cascades,
# Yue et al., "Large Language Model Cascades with Mixture of Thought Representations" (ICLR 2024), take the agreement of
# several samples; two are the cheapest number that can disagree.

SHORT = 12
"""Words up to which an answer is compared as a whole, and not word by word."""

_FINAL = re.compile(
    r"(?:####|\banswer(?: is)?:?|\\boxed\{)\s*(?:[$€£]\s*)?([-+]?\d[\d,]*(?:\.\d+)?|\(?[A-J]\)?(?![\w']))",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def agreement(first: str, second: str) -> float:
    """How far two answers say the same, 0 to 1; symmetric, and 1 for equal ones.

    JSON is equal or not; so are final answers that both mark (``#### 12``, "the answer is B"), and short answers. Of
    longer ones it is the F1 of their words (as in SQuAD: Rajpurkar et al. 2016, arXiv 1606.05250).
    """
    if first.strip() == second.strip():
        return 1.0
    data = _json(first), _json(second)
    if None not in data:
        return float(data[0] == data[1])
    finals = _final(first), _final(second)
    if None not in finals:
        return float(finals[0] == finals[1])
    words = _words(first), _words(second)
    if max(map(len, words)) <= SHORT:
        return float(words[0] == words[1])
    shared = (Counter(words[0]) & Counter(words[1])).total()
    return 2.0 * shared / (len(words[0]) + len(words[1]))


class ConsistencyCheck:
    """Accepts where a second answer, drawn with some chance, agrees.

    Args:
        threshold: least agreement.
        temperature: at which the second answer is drawn.
    """

    name = "consistency"
    wants_logprobs = False

    def __init__(self, threshold: float, temperature: float) -> None:
        self._threshold = threshold
        self._temperature = temperature

    async def judge(self, answered: CheckInput) -> CheckResult:
        """The verdict; without a second answer it is a rejection, since nothing speaks for the first."""
        if answered.completion.tool_calls and not answered.completion.text:
            return CheckResult(self.name, True, "calls of tools are not compared")
        if answered.sample is None:
            return CheckResult(self.name, True, "no second answer is drawn where no tier can follow")
        second = await answered.sample(self._temperature)
        if isinstance(second, str):
            return CheckResult(self.name, False, f"there was no second answer to compare with: {second}")
        measured = agreement(answered.completion.text, second.text)
        accepted = measured >= self._threshold
        sign = "reaches" if accepted else "is below"
        reason = f"agreement of two answers {measured:.3f} {sign} {self._threshold:g}"
        return CheckResult(self.name, accepted, reason, measured, self._threshold)


def _json(text: str) -> object:
    stripped = text.strip()
    if not stripped.startswith(("{", "[")):
        return None
    try:
        return json.loads(stripped)
    except (ValueError, RecursionError):
        return None


def _final(text: str) -> str | None:
    found = _FINAL.findall(text)
    if not found:
        return None
    said = found[-1].strip("()").replace(",", "").casefold()
    try:
        return repr(float(said))
    except ValueError:
        return str(said)


def _words(text: str) -> list[str]:
    """Words; of scripts that are written without spaces, characters."""
    plain = text.casefold()
    return _WORD.findall(_UNSPACED.sub(lambda found: f" {found[0]} ", plain))


# When the beginning of an answer is clear enough to be given out before the answer is whole.


def can_stream_early(held: Sequence[Delta], after_tokens: int | None, least: float | None) -> bool:
    """Whether the first tokens are so confident that the whole answer will hardly be rejected.

    There is no way back after this, so the bar is half-way between the threshold and certainty; and it does not begin
    as a refusal does.

    Args:
        held: pieces so far.
        after_tokens: tokens that must have come; None: never.
        least: confidence from which a whole answer is accepted; None: never.
    """
    if after_tokens is None or least is None:
        return False
    logprobs = [token for piece in held for token in piece.logprobs]
    if len(logprobs) < after_tokens:
        return False
    try:
        if confidence(logprobs) < (1.0 + least) / 2.0:
            return False
    except (ValueError, OverflowError):  # what is no number is not clear
        return False
    return refusal_in("".join(piece.text for piece in held)) is None


# A trained classifier of query and answer as a check: no further call is made.


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

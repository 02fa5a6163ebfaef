"""Answer checks: confidence, self-consistency, trained quality classifier."""

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
from typing import Any, Literal, Protocol, TypeAlias

from semroute.cascade.refusals import refusal_in
from semroute.errors import SemrouteError, unquoted
from semroute.plugins import Plugin, make
from semroute.text.final_answer import FinalAnswer, final_answer
from semroute.types import AnswerScorer, CheckResult, Completion, Delta, Request, TokenLogprob

log = logging.getLogger("semroute")

Sampler: TypeAlias = Callable[[float], Awaitable[Completion | str]]
"""Function that samples another answer of the same tier at a temperature and accounts for it; returns the reason if
there is none."""


Asker: TypeAlias = Callable[[str], Awaitable[Completion | str]]
"""Function that asks another model or group the same and accounts for it; returns the reason if there is no answer.

Raises :class:`UncheckableError` where the model may not give its opinion, since its provider filters the query.
"""


@dataclass(frozen=True, slots=True)
class CheckInput:
    """Input of a check: an answer and its query.

    Attributes:
        text: the routed text of the query.
        request: the complete request.
        completion: the answer.
        sample: sampler of another answer; None if no tier could follow a rejection.
        ask: asks another model; None like ``sample``.
    """

    text: str
    request: Request
    completion: Completion
    sample: Sampler | None
    ask: Asker | None = None


class UncheckableError(Exception):
    """Error of a check that cannot be made; its message is shown.

    Never leaves the cascade: the other checks decide.
    """


class Check(Protocol):
    """Check of answers. Safe to share between requests.

    Attributes:
        name: name of the check in its results.
        wants_logprobs: True if log probabilities should be requested from the tier.
    """

    name: str
    wants_logprobs: bool

    async def judge(self, answered: CheckInput) -> CheckResult:
        """Return the check result.

        An undecided check gives the reason in its result; nothing that a model does raises an error.

        Raises:
            UncheckableError: the check cannot be made.
        """
        ...


def unforeseen(error: BaseException) -> str:
    """Log an unexpected error of a check and return a description.

    The error's own message is left out: it may repeat an answer or a key. What a provider said is not logged either.
    """
    if isinstance(error, SemrouteError):
        words, logged = str(error), unquoted(error)
    else:
        frames = extract_tb(error.__traceback__)
        where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
        words = logged = f"{type(error).__name__}{where}"
    log.warning("a check of an answer failed, and the others judge without it: %s", logged)
    return words


# Confidence from the log probabilities of an answer's tokens.


def confidence(logprobs: Sequence[TokenLogprob]) -> float:
    """Return the geometric mean of the tokens' probabilities, 0 to 1.

    This is ``exp(mean(log p))``, the inverse of perplexity; see Jurafsky and Martin, Speech and Language Processing,
    3rd ed., 3.3. Servers write a probability of 0 as a large negative number (OpenAI: -9999), which is used as it is.

    Raises:
        ValueError: there are no tokens, or a log probability is NaN.
    """
    if not logprobs:
        raise ValueError("no tokens")
    mean = math.fsum(token.logprob for token in logprobs) / len(logprobs)
    if math.isnan(mean):  # min() would turn it into a probability of 1
        raise ValueError("a log probability is not a number")
    return math.exp(min(0.0, mean))


class ConfidenceCheck:
    """Check that accepts answers above a confidence threshold.

    Args:
        threshold: least confidence.
        instead: fallback without log probabilities: another check, or a fixed result.
    """

    name = "confidence"
    wants_logprobs = True

    def __init__(self, threshold: float, instead: Check | Literal["accept", "escalate"]) -> None:
        self._threshold = threshold
        self._instead = instead

    async def judge(self, answered: CheckInput) -> CheckResult:
        """Check the log probabilities, or use the fallback without them."""
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


# Self-consistency: a model that answers differently when asked again was guessing.
#
# Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (ICLR 2023), and, for cascades,
# Yue et al., "Large Language Model Cascades with Mixture of Thought Representations" (ICLR 2024), use the agreement of
# several samples; two is the cheapest number that can disagree.

SHORT = 12
"""Most words of an answer that is compared as a whole instead of word by word."""

_FINAL = re.compile(
    r"(?:####|\banswer(?: is)?:?|\\boxed\{)\s*(?:[$€£]\s*)?([-+]?\d[\d,]*(?:\.\d+)?|\(?[A-J]\)?(?![\w']))",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def agreement(first: str, second: str) -> float:
    """Return the agreement of two answers, 0 to 1; symmetric, 1 if equal.

    JSON, final answers that both texts mark (``#### 12``, "the answer is B"), and short answers are equal or not: 1 or
    0. Longer answers are compared by the F1 of their words (as in SQuAD: Rajpurkar et al. 2016, arXiv 1606.05250).
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
    """Check that accepts an answer if a second sample agrees with it.

    Args:
        threshold: least agreement.
        temperature: temperature of the second sample.
    """

    name = "consistency"
    wants_logprobs = False

    def __init__(self, threshold: float, temperature: float) -> None:
        self._threshold = threshold
        self._temperature = temperature

    async def judge(self, answered: CheckInput) -> CheckResult:
        """Compare with a second sample; reject without one, for want of evidence."""
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


# Agreement of different models: each errs in its own way, so that the same answer of both is seldom wrong.


class AgreementCheck:
    """Check that accepts an answer if other models answer the same.

    Answers are compared by their final answer (:func:`semroute.text.final_answer.final_answer`), calls of tools by
    names and arguments. Refusals, free text and code never agree.

    Args:
        models: the other models or groups, all of which must agree.

    Attributes:
        models: as given.
    """

    name = "agreement"
    wants_logprobs = False

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)

    async def judge(self, answered: CheckInput) -> CheckResult:
        """Ask the other models in their order, up to the first that disagrees.

        A model whose provider filters the query has no opinion: the others decide.
        """
        if answered.ask is None:
            return CheckResult(self.name, True, "no other model is asked where no tier can follow")
        first = answered.completion
        if _said(first, answered.text) is None:
            return self._disagreed("the answer has no option, number, JSON value or label to compare")
        kind, agreeing, filtered = "", list[str](), list[str]()
        for model in self.models:
            try:
                second = await answered.ask(model)
            except UncheckableError as error:
                filtered.append(f"{model}: {error}")
                continue
            if isinstance(second, str):
                return self._disagreed(f"{model} gave no answer to compare with: {second}")
            if second.finish_reason == "content_filter":
                filtered.append(f"{model}: a content filter cut its answer off")
                continue
            kind = _agreed(first, second, answered.text)
            if not kind:
                return self._disagreed(f"{model} does not answer the same")
            agreeing.append(model)
        if not agreeing:
            raise UncheckableError(f"no other model gave an opinion ({'; '.join(filtered)})")
        return CheckResult(self.name, True, f"agreed: {', '.join(agreeing)} gave the same {kind}", 1.0, 1.0)

    def _disagreed(self, reason: str) -> CheckResult:
        return CheckResult(self.name, False, f"disagreed: {reason}", 0.0, 1.0)


def _agreed(first: Completion, second: Completion, query: str) -> str:
    """Return the kind of answer that two completions share, or ""."""
    answers = _said(first, query), _said(second, query)
    if isinstance(answers[0], list) or isinstance(answers[1], list):
        return "calls of tools" if answers[0] == answers[1] else ""
    if answers[0] is None or answers[1] is None or not answers[0].agrees_with(answers[1]):
        return ""
    return answers[0].kind.replace("yes_no", "yes or no")


def _said(answer: Completion, query: str) -> FinalAnswer | list[tuple[str, str]] | None:
    if answer.tool_calls:
        return sorted((call.name, _arguments(call.arguments)) for call in answer.tool_calls)
    is_refused = answer.refusal is not None or answer.finish_reason in ("refusal", "content_filter", "length")
    if is_refused or refusal_in(answer.text) is not None:
        return None
    return final_answer(answer.text, query)


def _arguments(given: str) -> str:
    found = _json(given)
    return given.strip() if found is None else json.dumps(found, sort_keys=True)


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
    """Split a text into words; into characters for scripts without spaces."""
    plain = text.casefold()
    return _WORD.findall(_UNSPACED.sub(lambda found: f" {found[0]} ", plain))


# Early streaming: conditions under which an answer may be streamed before it is complete.


def can_stream_early(held: Sequence[Delta], after_tokens: int | None, least: float | None) -> bool:
    """Return True if the first tokens are confident enough to stream early.

    Streaming cannot be undone, so the threshold is half-way between the acceptance threshold and certainty, and the
    answer must not begin like a refusal.

    Args:
        held: chunks so far.
        after_tokens: least number of tokens received; None: never.
        least: confidence threshold for a complete answer; None: never.
    """
    if after_tokens is None or least is None:
        return False
    logprobs = [token for piece in held for token in piece.logprobs]
    if len(logprobs) < after_tokens:
        return False
    try:
        if confidence(logprobs) < (1.0 + least) / 2.0:
            return False
    except (ValueError, OverflowError):  # not a number: no evidence of confidence
        return False
    return refusal_in("".join(piece.text for piece in held)) is None


# Trained classifier of query and answer: needs no further call.


class QualityCheck:
    """Check by the predicted probability that the answer is acceptable.

    Args:
        scorer: the classifier.
        threshold: least probability; None: the classifier's own threshold.
    """

    name = "quality"

    def __init__(self, scorer: AnswerScorer, threshold: float | None) -> None:
        self._scorer = scorer
        self._threshold = scorer.threshold if threshold is None else threshold
        self.wants_logprobs = scorer.wants_logprobs

    async def judge(self, answered: CheckInput) -> CheckResult:
        """Score the answer on the event loop: it takes less than a millisecond."""
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


# Checks of plugins.


class CheckFactory(Protocol):
    """Factory of a check: class or function of a package or a program.

    A package names it by an entry point of the group ``semroute.checks``; a program hands it in as ``checks={"name":
    factory}``. A key of its name in a section ``accept`` uses it. Its attribute ``Options``, where it has one, is the
    pydantic model of that key's value (``true`` takes its defaults): a validated instance is the argument, which is
    None without ``Options``. The messages of the model's validators are shown with file, line and key.

    It is called once for every tier, and must not call a model or the network. It may raise a
    :class:`~semroute.errors.ConfigError`; any other error is reported with the package's name.
    """

    def __call__(self, options: Any, /) -> Check:
        """Return the check, safe to share between requests."""
        ...


class PluginCheck:
    """Check of a plugin; what it gives must be a check result.

    Args:
        plugin: named in messages.
        check: the plugin's own.
    """

    def __init__(self, plugin: Plugin, check: Check) -> None:
        self._plugin, self._check = plugin, check
        self.name, self.wants_logprobs = check.name, check.wants_logprobs

    async def judge(self, answered: CheckInput) -> CheckResult:
        """Return the plugin's result.

        Raises:
            UncheckableError: it gave something else.
        """
        result = await self._check.judge(answered)
        if not isinstance(result, CheckResult):
            raise UncheckableError(f"{self._plugin} gave a {type(result).__name__}, and no CheckResult")
        return result


def plugin_check(plugin: Plugin, options: Any) -> Check:
    """Return a plugin's check, checked for the protocol's members.

    Raises:
        PluginError: it cannot be made, or is no check.
        SemrouteError: as the factory raised it.
    """
    return PluginCheck(plugin, make(plugin, options, needs={"name": str, "wants_logprobs": bool, "judge": None}))

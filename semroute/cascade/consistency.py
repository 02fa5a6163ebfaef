"""Self-consistency: a model that answers otherwise when asked again was guessing.

Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (ICLR 2023), and, for cascades,
Yue et al., "Large Language Model Cascades with Mixture of Thought Representations" (ICLR 2024), take the agreement of
several samples; two are the cheapest number that can disagree.
"""

from __future__ import annotations

import json
import re
from collections import Counter

from semroute.cascade.check import CheckInput
from semroute.types import CheckResult

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

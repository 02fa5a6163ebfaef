"""A trained judge of answers, as a cascade sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class AnswerScorer(Protocol):
    """Tells how probable it is that an answer is acceptable. Safe to share between threads."""

    @property
    def threshold(self) -> float:
        """Probability from which an answer should be accepted, unless the configuration says otherwise."""
        ...

    @property
    def wants_logprobs(self) -> bool:
        """Whether log probabilities of tokens help it."""
        ...

    def probability(self, query: str, answer: str, logprobs: Sequence[float] = ()) -> float:
        """The probability that ``answer`` is acceptable, 0 to 1; ``logprobs`` of its tokens, where there are any."""
        ...

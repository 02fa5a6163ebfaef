"""Drift as words, the same in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from semroute.evaluate.baseline import DriftBaseline
from semroute.evaluate.drift import Drift
from semroute.evaluate.report.words import percent

FITS = "the policy fits: nothing that is known has moved far from what it was tuned on"


@dataclass(frozen=True, slots=True)
class Compared:
    """What a policy was tuned on, and what has changed since.

    Attributes:
        then: what it was tuned on.
        found: what has changed.
    """

    then: DriftBaseline
    found: Drift

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """What is compared, what it was then and what it is now; a dash for what is not known."""
        then, now = self.then, self.found
        yield "different queries", f"{then.rows:,}", f"{now.queries:,}"
        yield "their stability index", "", "-" if now.stability is None else f"{now.stability:.2f}"
        yield "fit no category", percent(then.below), "-" if now.below is None else percent(now.below.value)
        quality = "-" if now.quality is None else f"{percent(now.quality.value)} of {now.judged:,} judged"
        yield "quality", percent(then.quality), quality
        cost = "-" if now.cost_usd is None else f"{1000 * now.cost_usd.value:.4f} of {now.costed:,}"
        yield "USD for 1,000 queries", f"{1000 * then.cost_usd:.4f}", cost
        for model, (old, new) in now.prices.items():
            yield f"price of {model}", f"{old[0]:g}, {old[1]:g}", f"{new[0]:g}, {new[1]:g}"

    def warnings(self) -> Iterator[str]:
        """Why the policy should be tuned again, a sentence each."""
        for reason in self.found.reasons:
            yield f"tune the policy again: {reason}"

"""What a policy was tuned on, as drift is told by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from semroute.errors import ArtifactError
from semroute.evaluate.curves.bootstrap import Interval

Numbers = NDArray[np.float64] | NDArray[np.float32]
Prices = Mapping[str, tuple[float, float]]

BINS = 10
"""At most: where many scores are equal there are fewer cuts between them."""

_FOREIGN = "not what semroute tune-policy keeps of its tuning; tune the policy again"
_NUMBERS = ("below", "quality", "quality_low", "cost_usd", "cost_high")


@dataclass(frozen=True, slots=True)
class DriftBaseline:
    """What a policy was tuned on.

    Attributes:
        cuts: ascending scores that cut the different queries, by their best category, in parts of about equal size.
        shares: of the queries in each part, one more than there are cuts: equal scores stay together, so that the
            parts are not of quite equal size.
        thresholds: of the categories when it was tuned, by name; the policy may have moved them since.
        below: share of the different queries that fit no category by these.
        quality: mean of the policy's answers on held-out queries.
        quality_low: lower end of its 95% interval.
        cost_usd: mean cost of a held-out query.
        cost_high: upper end of its 95% interval.
        prices: of models, USD per million input and output tokens.
        rows: different queries.
        index: fingerprint of the index that gave the scores: those of another one cannot be compared.
        at: when it was tuned, with a zone.
    """

    cuts: tuple[float, ...]
    shares: tuple[float, ...]
    thresholds: Mapping[str, float]
    below: float
    quality: float
    quality_low: float
    cost_usd: float
    cost_high: float
    prices: Prices
    rows: int
    index: str
    at: datetime

    @classmethod
    def of(
        cls,
        scores: Numbers,
        below: NDArray[np.bool_],
        quality: Interval,
        cost: Interval,
        prices: Prices,
        *,
        thresholds: Mapping[str, float],
        index: str,
        at: datetime,
    ) -> Self:
        """From the ``(n,)`` best scores of the different tuning queries, and whether each is below its threshold."""
        cuts = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]))
        shares = parts_of(cuts, scores) / max(1, len(scores))
        return cls(
            cuts=tuple(map(float, cuts)),
            shares=tuple(map(float, shares)),
            thresholds=dict(thresholds),
            below=float(below.mean()),
            quality=quality.value,
            quality_low=quality.low,
            cost_usd=cost.value,
            cost_high=cost.high,
            prices=dict(prices),
            rows=len(scores),
            index=index,
            at=at,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_dict(cls, told: object) -> Self:
        """What :meth:`to_dict` gave.

        Raises:
            ArtifactError: it is no baseline.
        """
        if not isinstance(told, dict):
            raise ArtifactError(_FOREIGN)
        try:
            found = cls(
                cuts=tuple(map(float, told["cuts"])),
                shares=tuple(map(float, told["shares"])),
                thresholds={str(name): float(one) for name, one in told["thresholds"].items()},
                prices={str(model): (float(one[0]), float(one[1])) for model, one in told["prices"].items()},
                rows=int(told["rows"]),
                index=str(told["index"]),
                at=datetime.fromisoformat(told["at"]),
                **{name: float(told[name]) for name in _NUMBERS},
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ArtifactError(_FOREIGN) from error
        if len(found.shares) != len(found.cuts) + 1 or found.at.tzinfo is None:
            raise ArtifactError(_FOREIGN)
        return found


def parts_of(cuts: Numbers, scores: Numbers) -> NDArray[np.int64]:
    """``(len(cuts) + 1,)`` how many of the scores lie in each part; one that is equal to a cut lies above it."""
    return np.bincount(np.searchsorted(cuts, scores, side="right"), minlength=len(cuts) + 1)

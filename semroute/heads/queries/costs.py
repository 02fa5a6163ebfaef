"""What a call of each model is expected to cost, before anybody knows how long the answer will be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.head import Arrays

if TYPE_CHECKING:
    from semroute.config import Price

Numbers = NDArray[np.float64]
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class CallCosts:
    """``input tokens * scale * input price + output tokens * output price``; or a mean cost where no price is known.

    Input tokens are those of :func:`semroute.catalog.estimate_tokens`, in training as in serving: counted otherwise in
    one than in the other, the same prediction would lead to another model. The output is the training mean of the
    model in the task, else of the model.

    Attributes:
        models: ``m`` names.
        tasks: ``t`` names.
        price: ``(2, m)`` USD per token of input and output; NaN where it is not known.
        scale: ``(m,)`` tokens that the model is billed for, for each that is estimated.
        tokens: ``(1 + t, m)`` mean output tokens, over all tasks first: those with which the formula gives the mean
            cost of the training rows; NaN where they are not known.
        flat: ``(1 + t, m)`` mean USD of a call, over all tasks first.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    price: Numbers
    scale: Numbers
    tokens: Numbers
    flat: Numbers

    ARRAYS: ClassVar[tuple[str, ...]] = ("price", "scale", "tokens", "flat")

    def expected(self, input_tokens: Sequence[int] | NDArray[np.int64], tasks: Sequence[str] | None = None) -> Numbers:
        """``(n, m)`` USD, never below 0.

        Args:
            input_tokens: of ``n`` queries, as estimated.
            tasks: of each; None, and a task that was not trained on, takes the mean over all.
        """
        places = {task: row for row, task in enumerate(self.tasks, 1)}
        rows = [places.get(task, 0) for task in tasks] if tasks is not None else [0] * len(input_tokens)
        asked = np.asarray(input_tokens, np.float64)[:, None] * self.scale
        # Told costs below what input costs by the list (cached input) leave less than nothing for the output.
        priced = np.maximum(asked * self.price[0] + self.tokens[rows] * self.price[1], 0.0)
        return np.where(np.isfinite(priced), priced, self.flat[rows])

    def with_prices(self, prices: Mapping[str, Price]) -> CallCosts:
        """The same with other prices; models that ``prices`` does not name keep theirs."""
        price = self.price.copy()
        for column, model in enumerate(self.models):
            if model in prices:
                price[:, column] = prices[model].input / _MILLION, prices[model].output / _MILLION
        return replace(self, price=price)

    def arrays(self) -> Arrays:
        """The numbers, by name."""
        return {name: getattr(self, name) for name in self.ARRAYS}

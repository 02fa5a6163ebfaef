"""What a call of each model is expected to cost, before anybody knows how long the answer will be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.head import Arrays

if TYPE_CHECKING:
    from semroute.config import Price

Numbers = NDArray[np.float64]
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class CallCosts:
    """``input tokens * input price + expected output tokens * output price``; or a mean cost where no price is known.

    The expected output is the training mean of the model in the task, else of the model.

    Attributes:
        models: ``m`` names.
        tasks: ``t`` names.
        price: ``(2, m)`` USD per token of input and output; NaN where it is not known.
        tokens: ``(1 + t, m)`` mean output tokens, over all tasks first.
        flat: ``(1 + t, m)`` mean USD of a call, over all tasks first.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    price: Numbers
    tokens: Numbers
    flat: Numbers

    def expected(self, input_tokens: Sequence[int], tasks: Sequence[str] | None = None) -> Numbers:
        """``(n, m)`` USD.

        Args:
            input_tokens: of ``n`` queries.
            tasks: of each; None, and a task that was not trained on, takes the mean over all.
        """
        places = {task: row for row, task in enumerate(self.tasks, 1)}
        rows = [places.get(task, 0) for task in tasks] if tasks is not None else [0] * len(input_tokens)
        asked = np.asarray(input_tokens, np.float64)[:, None]
        priced = asked * self.price[0] + self.tokens[rows] * self.price[1]
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
        return {"price": self.price, "tokens": self.tokens, "flat": self.flat}

"""Cost of every cell of a table, with imputation, and prices of models.

A cost is as the outcomes report it, or computed from tokens and prices; unknown tokens are counted or imputed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semroute.errors import DataError, InputError
from semroute.outcomes.table import Floats, OutcomeTable, group_means, numbered

if TYPE_CHECKING:
    from semroute.config import Config, Price
    from semroute.types import TokenCounter


ASSUMED_TOKENS = 256
"""Output tokens of a cell if no response of any model has a known length; the same for all models, so that the order of
models by cost is that of their prices."""

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Table with complete costs, and the sources of the costs.

    Attributes:
        table: the outcomes; ``cost`` is finite everywhere, ``input_tokens`` and ``output_tokens`` are imputed where a
            cost was computed from them and stay unknown elsewhere.
        price: ``(2, m)`` float64, USD per token of input and of output; NaN if no price is known.
        told: cells whose cost the outcomes report.
        reckoned: cells whose cost is computed from reported tokens and prices.
        counted: cells with input or output tokens counted here, by a tokenizer that may differ from the model's.
        averaged: cells whose output tokens are the mean of the model and task, or of a wider group.
        assumed: cells whose output tokens are :data:`ASSUMED_TOKENS`.
    """

    table: OutcomeTable
    price: NDArray[np.float64]
    told: int
    reckoned: int
    counted: int
    averaged: int
    assumed: int

    @property
    def is_estimated(self) -> bool:
        """True if the cost of any cell rests on unreported tokens."""
        return self.counted + self.averaged + self.assumed > 0

    def words(self, tokenizer: str) -> str | None:
        """Describe the estimates behind the costs; None without estimates.

        Args:
            tokenizer: name of the tokenizer with which tokens were counted.
        """
        if not self.is_estimated:
            return None
        cells, parts = self.table.cost.size, []
        if self.counted:
            parts.append(f"{self.counted / cells:.0%} from tokens counted with {tokenizer}")
        if self.averaged:
            parts.append(f"{self.averaged / cells:.0%} with the mean output of the model and task")
        if self.assumed:
            parts.append(f"{self.assumed / cells:.0%} with {ASSUMED_TOKENS} output tokens assumed for every model")
        return f"costs are estimates: {', '.join(parts)}"


def with_costs(table: OutcomeTable, prices: Mapping[str, Price], count: TokenCounter | None = None) -> Costs:
    """Compute the cost of every cell.

    A reported cost is kept. Any other is ``input_tokens * input price + output_tokens * output price``. Unreported
    input tokens are counted in the query; unknown output tokens are imputed by the mean over the known ones of the same
    model and task, else of the model, else of the task, else of all, else by :data:`ASSUMED_TOKENS`.

    Args:
        table: the outcomes.
        prices: prices of models, USD per million tokens; unused ones are ignored.
        count: token counter for queries.

    Raises:
        InputError: a model without a price has cells without a cost, or tokens must be counted and ``count`` is None.
    """
    is_reported = np.isfinite(table.cost)
    _check_prices(table, is_reported, prices)
    is_computed = ~is_reported
    input_tokens, is_counted = _input_tokens(table, is_computed, count)
    output_tokens, source = _output_tokens(table)
    price = _per_token(table, prices)
    cost = np.where(is_reported, table.cost, input_tokens * price[0] + output_tokens * price[1])
    averaged, assumed = is_computed & (source == _AVERAGED), is_computed & (source == _ASSUMED)
    counted = is_computed & (is_counted[:, None] | table.counted) & ~averaged & ~assumed
    return Costs(
        table=replace(
            table,
            cost=cost.astype(np.float32),
            input_tokens=np.where(is_computed, input_tokens, table.input_tokens),
            output_tokens=np.where(is_computed, output_tokens, table.output_tokens),
        ),
        price=price,
        told=int(is_reported.sum()),
        reckoned=int((is_computed & ~counted & ~averaged & ~assumed).sum()),
        counted=int(counted.sum()),
        averaged=int(averaged.sum()),
        assumed=int(assumed.sum()),
    )


def _per_token(table: OutcomeTable, prices: Mapping[str, Price]) -> NDArray[np.float64]:
    price = np.full((2, len(table.models)), np.nan)
    for column, model in enumerate(table.models):
        if model in prices:
            price[:, column] = prices[model].input / _MILLION, prices[model].output / _MILLION
    return price


def _check_prices(table: OutcomeTable, is_reported: NDArray[np.bool_], prices: Mapping[str, Price]) -> None:
    unpriced = [
        model
        for model, column in zip(table.models, is_reported.T, strict=True)
        if model not in prices and not column.all()
    ]
    if unpriced:
        names = ", ".join(f'"{model}"' for model in unpriced)
        raise InputError(
            f"no price for {names}, and some outcomes have no cost; add the price in USD per "
            'million tokens ("model: [input, output]"), or "cost_usd" to the outcomes'
        )


def _input_tokens(
    table: OutcomeTable, is_computed: NDArray[np.bool_], count: TokenCounter | None
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return ``(n, m)`` input tokens, and an ``(n,)`` mask of counted rows."""
    rows = np.asarray((is_computed & ~np.isfinite(table.input_tokens)).any(axis=1))
    tokens = table.input_tokens.copy()
    if not rows.any():
        return tokens, rows
    if count is None:
        raise InputError('the outcomes have no "input_tokens" and there is no tokenizer to count them with')
    numbers = np.flatnonzero(rows)
    counts = np.array(count([table.queries[row] for row in numbers.tolist()]), np.float32)
    tokens[numbers] = np.where(np.isfinite(tokens[numbers]), tokens[numbers], counts[:, None])
    return tokens, rows


_KNOWN, _AVERAGED, _ASSUMED = 0, 1, 2


def _output_tokens(table: OutcomeTable) -> tuple[Floats, NDArray[np.int8]]:
    """Return ``(n, m)`` output tokens, and the source of each."""
    is_known = np.isfinite(table.output_tokens)
    source = np.where(is_known, _KNOWN, _AVERAGED).astype(np.int8)
    if is_known.all():
        return table.output_tokens, source
    if not is_known.any():
        return np.full(is_known.shape, ASSUMED_TOKENS, np.float32), np.full(is_known.shape, _ASSUMED, np.int8)
    names, tasks = numbered(table.tasks)
    means = group_means(table.output_tokens, tasks, len(names))
    return np.where(is_known, table.output_tokens, means[tasks]).astype(np.float32), source


# Prices of models: from a file of their own, or from ``semroute.yaml``.

_SHAPE = 'write it as "model: [input, output]" in USD per million tokens, such as "small: [0.15, 0.60]"'


def read_prices(path: Path | str) -> dict[str, Price]:
    """Read a YAML file of ``model: [input, output]``, USD per million tokens.

    Raises:
        DataError: the file cannot be read or used. The message has a line for each problem, with the fix.
    """
    from semroute.config.load import read
    from semroute.config.yaml_lines import YamlError, parse
    from semroute.errors import ConfigError

    path = Path(path)
    try:
        document = parse(read(path))
    except ConfigError as error:
        raise DataError(str(error)) from None
    except YamlError as error:
        raise DataError(str(error), path=path, line=error.line) from None
    if not isinstance(document.data, dict) or not document.data:
        raise DataError(f"holds no prices; {_SHAPE}", path=path)
    if isinstance(document.data.get("models"), dict):
        raise DataError("is a configuration; name it with --config in place of --prices", path=path)
    problems = [(problem.line, f"{problem.key}: {problem.text}") for problem in document.repeated]
    prices = {}
    for model, value in document.data.items():
        price = _price(value)
        if price is None:
            problems.append((document.line((str(model),)), f'the price of "{model}" cannot be used; {_SHAPE}'))
        else:
            prices[str(model)] = price
    if problems:
        lines = [str(DataError(message, path=path, line=line)) for line, message in problems]
        raise DataError("\n".join(lines))
    return prices


def configured_prices(config: Config) -> dict[str, Price]:
    """Return the price of every model of a configuration that has one.

    It is the model's own, else that of its first deployment with one.
    """
    from semroute.catalog.prices import price_of

    prices = {name: spec.price for name, spec in config.models.items() if spec.price is not None}
    for deployment in config.deployments:
        price = price_of(deployment, config)
        if price is not None:
            prices.setdefault(deployment.model, price)
    return prices


def _price(value: object) -> Price | None:
    from semroute.config import Price

    if isinstance(value, Mapping):
        value = [value.get("input"), value.get("output")] if set(value) == {"input", "output"} else None
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_price, value)):
        return None
    return Price(input=value[0], output=value[1])


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0

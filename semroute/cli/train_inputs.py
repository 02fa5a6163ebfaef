"""What ``semroute train`` reads, made ready to be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semroute.cli.encoding import Encoding
from semroute.types.progress import Progress

if TYPE_CHECKING:
    from semroute.learn.queries.rows import TrainingRows
    from semroute.learn.queries.training import Setting, TrainedQueries
    from semroute.learn.queries.value import Worth
    from semroute.outcomes.costs import Costs


@dataclass(frozen=True, slots=True)
class TrainSource:
    """What the command was told.

    Attributes:
        outcomes: files of outcomes.
        prices: file of prices; None takes those of the configuration.
        models: names; None takes all.
        most: queries to train on; a sample is drawn of more.
        seed: of the sample.
        store: where vectors are kept.
    """

    outcomes: Sequence[Path]
    prices: Path | None
    models: tuple[str, ...] | None
    most: int
    seed: int
    store: Path | None


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """What is trained on.

    Attributes:
        rows: queries, vectors and quality.
        setting: encoder, categories and expected costs.
        costs: what the rows did cost.
        left_out: rows of the files that are not among them.
    """

    rows: TrainingRows
    setting: Setting
    costs: Costs
    left_out: int

    def worth(self, trained: TrainedQueries) -> Worth | None:
        """The value at which the classifier's choices are as good as the best single model, on left-out rows."""
        from semroute.learn.queries.costs import asked_tokens
        from semroute.learn.queries.value import matching_value

        table, judged = self.costs.table, trained.judged
        # Without tasks: who routes a query does not know its task.
        expected = self.setting.costs.expected(asked_tokens(table.queries))[judged]
        quality, paid = self.rows.quality[judged], table.cost[judged].astype("float64")
        return matching_value(trained.left_out, quality, paid, expected)


def gather(source: TrainSource, encoding: Encoding, config_path: Path | None, progress: Progress) -> TrainInputs:
    """Read the files, and embed the queries.

    Raises:
        InputError: a file cannot be used, a model has neither price nor cost, or there is too little to train on.
    """
    from semroute.cli.policy_inputs import known_prices
    from semroute.learn.queries.costs import call_costs
    from semroute.learn.queries.rows import TrainingRows, usable_rows
    from semroute.learn.queries.training import Setting
    from semroute.outcomes.costs import with_costs
    from semroute.outcomes.files import read_outcomes

    prices = known_prices(source.prices, config_path)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=encoding.count)
    if source.models is not None:
        table = table.with_models(source.models)
    usable = usable_rows(table, most=source.most, seed=source.seed)
    costs = with_costs(table.take(usable.rows), prices, encoding.count)
    progress("reading", 1, 1)
    vectors = encoding.vectors(costs.table.queries, source.store, progress)
    table = costs.table
    rows = TrainingRows.of(table.queries, vectors, table.quality.astype("float64"), table.models, encoding.categories)
    setting = Setting(encoding.encoder.fingerprint, call_costs(costs), encoding.categories)
    return TrainInputs(rows, setting, costs, usable.left_out)

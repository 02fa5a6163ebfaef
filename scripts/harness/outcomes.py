"""Public outcomes, with vectors, costs and the scores of a pair of models.

``scripts/bench_policy.py`` documents the sources of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves import apgr, strong_share_curves
from semroute.evaluate.metrics import Resampling
from semroute.learn.query_quality import Setting
from semroute.outcomes.costs import Costs, read_prices, with_costs
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.table import OutcomeTable
from semroute.predictors.query_features import QueryInputs
from semroute.predictors.query_quality import CallCosts
from semroute.types import Matrix
from semroute.workflows.workspace import Workspace

FILES = {
    "mmlu": "routellm/mmlu.jsonl",
    "gsm8k": "routellm/gsm8k.jsonl",
    "nine": "llmrouter/nine_models.jsonl",
    "mmlu_pro": "mmlu_pro/outcomes.jsonl",
    "zeroeval": "zeroeval/outcomes.jsonl",
}


def read_costs(
    data: Path, name: str, *, responses: bool = False, models: Sequence[str] | None = None
) -> tuple[Costs, Workspace]:
    """Read one of :data:`FILES`, with costs of tokens as counted here.

    The counter is the built-in encoder's tokenizer.

    Rows without the quality of one of the models are left out.
    """
    workspace = Workspace()
    table = read_outcomes(data / FILES[name], count=workspace.count, keep_responses=responses)
    table = table if models is None else table.with_models(models)
    table = table.take(table.is_complete)
    return with_costs(table, read_prices(data / "prices.yaml"), workspace.count), workspace


def embedded(workspace: Workspace, table: OutcomeTable, name: str, folder: Path | None) -> Matrix:
    """Return ``(n, d)`` vectors of the queries, cached in ``folder``."""
    return workspace.vectors(table.queries, folder and folder / f"{name}.npz", lambda *_: None)


def read_inputs(data: Path, name: str, folder: Path | None) -> tuple[OutcomeTable, QueryInputs]:
    """Read one of :data:`FILES`, with features and vectors of its queries."""
    table = read_outcomes(data / FILES[name])
    vectors = embedded(Workspace(), table, name, folder)
    return table, QueryInputs.of(table.queries, vectors, np.zeros((0, vectors.shape[1]), np.float32))


def plain_setting(models: tuple[str, ...], dimensions: int) -> Setting:
    """Return a setting of training without categories and without costs."""
    nothing = CallCosts(models, (), np.zeros((2, len(models))), np.ones(len(models)), *np.zeros((2, 1, len(models))))
    return Setting("", nothing, np.zeros((0, dimensions), np.float32))


def pair_apgr(
    predicted: NDArray[np.float64], quality: NDArray[np.float64], resampling: Resampling
) -> NDArray[np.float64]:
    """Return APGR of a pair of models on all rows and on every resample.

    Args:
        predicted: ``(n, models)`` predicted qualities.
        quality: ``(n, models)`` true ones; the pair are the worst and the best model.
        resampling: of the rows.
    """
    weak, strong = np.argsort(quality.mean(axis=0))
    score = predicted[:, strong] - predicted[:, weak]
    return np.asarray(apgr(*strong_share_curves(resampling, score, quality[:, weak], quality[:, strong])))

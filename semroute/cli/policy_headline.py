"""The lines above and below the tables of ``semroute evaluate-policy``: what was compared, and what the figures are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from semroute.cli.tables import DataTable, figures, number, percent

if TYPE_CHECKING:
    from semroute.evaluate.study.results import Study


def headline(study: Study) -> DataTable:
    """What was compared, on what, and how many outcomes the wanted interval takes."""
    from semroute.evaluate.replay.duplicates import NEAR

    found = study.duplicates
    near = "not compared by vectors" if found.near is None else f"{found.near:,} with a vector within {NEAR}"
    mixing, zero = number(study.mixing_aiq.value), number(study.zero_aiq.value)
    return figures(
        queries=f"{study.n:,}, {len(study.models)} models, {study.plan.folds} folds, "
        f"{study.plan.resamples:,} paired resamples; 95% intervals",
        duplicates=f"{found.same_text:,} of equal text, {near}; kept on one side of every split",
        best_single=_best_single(study),
        random_mixing=f"AIQ {mixing} of cheapest and strongest, {zero} of all models as well as can be (zero router)",
        outcomes_needed=_needed(study),
    )


def usd(value: float) -> str:
    """USD of 1,000 queries, with digits enough to tell models apart."""
    return f"{value * 1000:,.4f}"


def legend(study: Study) -> Iterator[Text]:
    """What the figures are, in a few lines."""
    words = "AIQ: mean quality over the range of costs; arena: quality and cheapness in one"
    if study.roles.pair is not None:
        words += (
            "; APGR: share of the quality gap between the two models that is recovered; CPT 50%: share of calls of the "
            "stronger that recovers half of it"
        )
    yield Text(f"{words}; -: not defined.", style="dim")
    yield Text("--html FILE explains every figure, and names its source.", style="dim")


def _best_single(study: Study) -> str:
    """Its figures, and why they may be none of the table of models: it is chosen without the rows it is judged on."""
    figures = f"quality {number(study.best_quality.value)}, USD {usd(study.best_cost.value)} for 1,000"
    shares = study.best_shares
    if len(shares) == 1:
        return f"{next(iter(shares))}, {figures}; chosen on other folds"
    chosen = ", ".join(f"{model} for {percent(share)}" for model, share in shares.items())
    best = max(study.models, key=lambda model: study.quality[model].value)
    return (
        f"{figures}: the best model of the other folds, chosen anew for each fold ({chosen} of the queries); the best "
        f"of the table, {best} at {number(study.quality[best].value)}, is known only afterwards"
    )


def _needed(study: Study) -> str:
    need, name = study.subject.needed, study.subject.name
    if need.for_interval is None or need.to_detect is None:
        return str(need.unknown)
    return (
        f"{need.for_interval:,} for an interval of +-{need.half_width:g} around {name} less best single in quality; "
        f"{need.to_detect:,} to detect {need.half_width:g} at 80% power"
    )

"""Accuracy and latency of a router on labelled queries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.data.examples import LabelledQuery
from semroute.data.importing.records import ImportOptions
from semroute.data.queries import read_labelled
from semroute.encoders.cache import CachedEncoder
from semroute.errors import DataError
from semroute.evaluate.breakdown import GroupFigures, break_down
from semroute.evaluate.rejection import RejectionPoint, rejection_curve
from semroute.evaluate.routing import (
    Evaluation,
    Mistake,
    ScoredQueries,
    SweepPoint,
    evaluate,
    mistakes,
    recommend,
    sweep,
    threshold_grid,
)
from semroute.learn.artifact import CHUNK, with_thresholds
from semroute.learn.tune import label_numbers
from semroute.router.decide import score_texts, settled_scores
from semroute.router.load import LoadedIndex
from semroute.router.router import Router
from semroute.types import Encoder
from semroute.types.protocols import Progress, silent
from semroute.types.serialization import json_fields
from semroute.workflows.tune import WrongQueries, read_labelled_queries
from semroute.workflows.workspace import Warn, Workspace, unheard

LATENCY_QUERIES = 500
"""Queries to time: enough for a p99 that rests on five of them."""
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class DecisionLatency:
    """Wall time of ``route()`` for single new queries.

    Milliseconds, over ``n`` queries.
    """

    p50: float
    p99: float
    n: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Accuracy and latency, as ``semroute evaluate`` reports them.

    ``answered_first`` is the share of queries that the first stage answers; None if the index has none. ``mistakes``
    are the misrouted queries, ``rejection`` the trade-off around the thresholds, ``groups`` the figures by language and
    by kind of query.
    """

    evaluation: Evaluation
    latency: DecisionLatency
    answered_first: float | None = None
    mistakes: tuple[Mistake, ...] = ()
    rejection: tuple[RejectionPoint, ...] = ()
    groups: tuple[GroupFigures, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values, without the misrouted queries."""
        latency = self.latency
        return {
            **self.evaluation.to_dict(),
            "groups": [group.to_dict() for group in self.groups],
            "answered_first": self.answered_first,
            "rejection": [json_fields(point) for point in self.rejection],
            "latency_ms": {"p50": latency.p50, "p99": latency.p99, "n": latency.n},
        }


@dataclass(frozen=True, slots=True)
class IndexEvaluation:
    """Figures of an index on a labelled file, and its misrouted queries."""

    measurement: Measurement
    wrong: WrongQueries

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {**self.measurement.to_dict(), "errors": self.wrong.to_dicts()}


def evaluate_index(
    labelled: Path,
    workspace: Workspace,
    *,
    options: ImportOptions | None = None,
    latency_queries: int = LATENCY_QUERIES,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> IndexEvaluation:
    """Measure the serving index on labelled queries.

    Args:
        labelled: file of labelled queries that are not among the examples.
        workspace: index and configuration.
        options: names of the file's columns; None guesses.
        latency_queries: number of queries to time.
        progress: called with a step's name, the number done and the total.
        warn: receives findings in the file.

    Raises:
        DataError: the file cannot be used, or a label is not in the index.
        ArtifactError: the index cannot be used.
    """
    rows = read_labelled_queries(labelled, options, warn)
    router = workspace.router(progress=progress)
    measured = measure(router, rows, path=labelled, latency_queries=latency_queries, progress=progress)
    wrong = WrongQueries(measured.mistakes, rows, router.live.artifact, router.live.encoder)
    return IndexEvaluation(measured, wrong)


def score_rows(
    live: LoadedIndex,
    rows: Sequence[LabelledQuery],
    *,
    path: Path | None = None,
    progress: Progress = silent,
) -> ScoredQueries:
    """Return the scores of :func:`score_by_stage`."""
    return score_by_stage(live, rows, path=path, progress=progress)[0]


def score_by_stage(
    live: LoadedIndex,
    rows: Sequence[LabelledQuery],
    *,
    path: Path | None = None,
    progress: Progress = silent,
) -> tuple[ScoredQueries, NDArray[np.bool_]]:
    """Score labelled queries by the loaded index.

    The second result is ``(n,)``, True where the first stage answers.

    Args:
        live: the loaded index.
        rows: labelled queries.
        path: their file, for messages.
        progress: called with a step's name, the number done and the total.

    Raises:
        DataError: there are no rows, or a label is not in the index.
    """
    if not rows:
        raise DataError("no labelled queries", path=path)
    names = live.semantic.names
    labels = label_numbers(rows, names, path)
    parts, settled = [], []
    for start in range(0, len(rows), CHUNK):
        texts = [row.query for row in rows[start : start + CHUNK]]
        parts.append(score_texts(live, texts))
        settled.append(settled_scores(live, texts, parts[-1]))
        progress("embedding", min(start + CHUNK, len(rows)), len(rows))
    scores = np.concatenate(settled)
    confidence = np.concatenate([part.confidence for part in parts])
    return ScoredQueries(names, scores, confidence, labels), np.concatenate([part.first for part in parts])


@dataclass(frozen=True, slots=True)
class FallbackSweep:
    """Fallback thresholds tried on labelled queries, each for all categories.

    Attributes:
        points: the thresholds with their results, lowest first.
        recommended: the lowest that rejects enough out-of-scope queries.
        written: folder of the index that the recommended one was written to; None where it was not.
    """

    points: Sequence[SweepPoint]
    recommended: SweepPoint
    written: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values; ``written`` is a boolean."""
        points = [json_fields(point) for point in self.points]
        return {
            "points": points,
            "recommended": json_fields(self.recommended),
            "written": self.written is not None,
        }


def sweep_fallback(
    labelled: Path,
    workspace: Workspace,
    oos_recall: float,
    *,
    plot: Path | None = None,
    write: bool = False,
    progress: Progress = silent,
) -> FallbackSweep:
    """Try every fallback threshold, one for all categories, on labels.

    Args:
        labelled: file of labelled queries.
        workspace: its index.
        oos_recall: share of the out-of-scope queries that the recommended threshold rejects.
        plot: image that the curve is drawn to; None draws none.
        write: whether to set that threshold for all categories of the index.
        progress: called with a step's name, the number done and the total.

    Raises:
        DataError: the file cannot be used, or a label is not in the index.
        ArtifactError: the index cannot be used; or it is to be written, and is the shared one.
        MissingExtraError: the extra "plot" is not installed.
    """
    rows = read_labelled(labelled)
    live = workspace.router(progress=progress).live
    if write:
        workspace.own_index()  # rejects the shared index before the work
    scored = score_rows(live, rows, path=labelled, progress=progress)
    points = sweep(scored, threshold_grid(scored))
    best = recommend(points, oos_recall)
    if plot is not None:
        from semroute.render.plots import plot_sweep

        plot_sweep(points, best, plot, title=f"Fallback threshold on {len(rows):,} queries of {labelled.name}")
    if write:
        source = "in-scope" if best.oos_caught is None else "out-of-scope"
        with_thresholds(live.artifact, dict.fromkeys(live.semantic.names, best.threshold), source)
    return FallbackSweep(points, best, live.artifact.folder if write else None)


def measure(
    router: Router,
    rows: Sequence[LabelledQuery],
    *,
    path: Path | None = None,
    latency_queries: int = LATENCY_QUERIES,
    progress: Progress = silent,
) -> Measurement:
    """Evaluate a router with its configured thresholds, and time it.

    Up to ``latency_queries`` rows are timed.

    Raises:
        DataError: there are no rows, or a label is not in the index.
    """
    scored, first = score_by_stage(router.live, rows, path=path, progress=progress)
    thresholds = router.live.semantic.thresholds
    evaluation, wrong = evaluate(scored, thresholds), mistakes(scored, thresholds)
    queries = [row.query for row in rows]
    examples = {name: entry.examples for name, entry in router.live.artifact.manifest.categories.items()}
    groups = break_down(queries, scored, thresholds, examples)
    latency = time_queries(router, queries, latency_queries, progress)
    answered = None if router.live.first is None else float(first.mean())
    return Measurement(evaluation, latency, answered, wrong, rejection_curve(scored, thresholds), groups)


def time_queries(
    router: Router,
    queries: Sequence[str],
    most: int = LATENCY_QUERIES,
    progress: Progress = silent,
) -> DecisionLatency:
    """Route up to ``most`` queries one at a time, without the vector cache.

    They are evenly spread over ``queries``.
    """
    live = router.live
    first = None if live.first is None else replace(live.first, encoder=_uncached(live.first.encoder))
    uncached = Router(replace(live, encoder=_uncached(live.encoder), first=first), router.config)
    chosen = [queries[place] for place in np.unique(np.linspace(0, len(queries) - 1, most).astype(int))]
    for query in chosen[:WARM_UP]:
        uncached.route(query)
    times = np.empty(len(chosen))
    for number, query in enumerate(chosen):
        start = time.perf_counter()
        uncached.route(query)
        times[number] = (time.perf_counter() - start) * 1000.0
        progress("timing", number + 1, len(chosen))
    return DecisionLatency(float(np.percentile(times, 50)), float(np.percentile(times, 99)), len(chosen))


def _uncached(encoder: Encoder) -> Encoder:
    return encoder.encoder if isinstance(encoder, CachedEncoder) else encoder

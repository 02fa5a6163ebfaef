"""Train the background head: examples against queries of no category.

A build knows the user's examples and nothing of what else will be asked. ``background.txt`` stands for that: some
3,200 queries on errands, devices, travel, trades and nonsense, in sixteen languages, which
``scripts/make_background.py`` writes. A small head learns all categories and one more class, the background, and of a
query, ``p(best) / (p(best) + p(other))`` is blended into the scores of all categories
(:func:`semroute.index.scoring.blend_background`). So the best category stays the best, and scores stay on one scale.

A user's categories may be about anything, and so about some of these queries. Left out are those as close to an example
as examples are to each other, and those that score like held-out examples. These decide whether a background is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from semroute.arrays import read_npy
from semroute.encoders.cache import CachedEncoder
from semroute.encoders.multilingual import JoinedEncoder
from semroute.encoders.onnx import OnnxEncoder
from semroute.encoders.static import StaticEncoder
from semroute.evaluate.metrics import auroc
from semroute.index.scoring import blend_background, in_scope_share
from semroute.learn.category_head import HeadPlan, train_heads
from semroute.learn.fit import Fitted, HeldOutScores, Split, complete_fit, mean_by_group, splits, usable_plan
from semroute.learn.near_twins import group_means
from semroute.predictors.category_head import MlpHead
from semroute.storage import atomic_write
from semroute.types import Encoder, Matrix
from semroute.types.protocols import Progress, silent

GAIN = 4.0
"""Share of the background head in a score, for each unit of AUROC that the scores alone lack between held-out examples
and the background. A constant share is too much where they reject well already: on the validation rows of CLINC150, .3
costs .002 of AUROC against none in the ten domains, where this (a share of .15) costs nothing; in the 150 intents (.13)
it gains .001. The shipped categories, where they lack .075, have .3."""

MOST = 0.5
"""Largest share of the background head: the best category's own score counts as much."""

CLOSE = 0.5
"""Quantile of the cosines between examples and their nearest neighbours, other than near-duplicates, in their category:
from there on a background query counts as one of the category's."""

FEWEST = 300
"""Background queries below which none are used: the categories are about most of them."""

MAX_REPEATS = 200
CACHED = 4
"""Files of vectors kept in the user's cache folder, one for each encoder."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Background:
    """Queries of no category, as vectors.

    Attributes:
        vectors: ``(n, d)`` unit rows.
        digest: of their texts.
    """

    vectors: Matrix
    digest: str


@cache
def background_texts() -> tuple[str, ...]:
    """Return the queries of no category."""
    content = (files("semroute.learn") / "background.txt").read_text("utf-8")
    return tuple(line for line in content.splitlines() if line)


def embedded_background(encoder: Encoder, progress: Progress = silent) -> Background | None:
    """Return the background in an encoder's space.

    Its vectors are kept in the user's cache folder, in half precision.

    Args:
        encoder: the encoder of an index.
        progress: called with a step's name, the number done and the total.

    Returns:
        None for an encoder that may cost money or time for each text: remote, of a plugin, or a program's own.
    """
    plain = encoder.encoder if isinstance(encoder, CachedEncoder) else encoder
    if not isinstance(plain, OnnxEncoder | JoinedEncoder | StaticEncoder):
        return None
    texts = background_texts()
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    folder = platformdirs.user_cache_path("semroute")
    name = hashlib.sha256(f"{digest} {plain.fingerprint}".encode()).hexdigest()[:16]
    path = folder / f"background-{name}.npy"
    halves = _cached(path, (len(texts), plain.dimensions))
    if halves is None:
        halves = _embed(plain, texts, progress).astype(np.float16)
        _keep(path, halves)
    vectors = halves.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Background(vectors, digest)


def _embed(encoder: Encoder, texts: Sequence[str], progress: Progress) -> Matrix:
    parts, size = [], 256
    for start in range(0, len(texts), size):
        parts.append(encoder.encode(texts[start : start + size]))
        progress("background", min(start + size, len(texts)), len(texts))
    return np.concatenate(parts)


def _cached(path: Path, shape: tuple[int, int]) -> NDArray[Any] | None:
    try:
        stored: NDArray[Any] = read_npy(path)
    except (OSError, ValueError):
        return None
    is_whole = stored.shape == shape and stored.dtype == np.float16 and bool(np.isfinite(stored).all())
    return stored if is_whole else None


def _keep(path: Path, halves: NDArray[Any]) -> None:
    """Store vectors for the next build; without a cache folder, it computes them again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, part.open("wb") as file:
            np.save(file, halves, allow_pickle=False)
        newest = sorted(path.parent.glob("background-*.npy"), key=lambda other: other.stat().st_mtime, reverse=True)
        for other in newest[CACHED:]:
            other.unlink(missing_ok=True)
    except OSError:
        return


def with_background(
    fitted: Fitted,
    vectors: Matrix,
    labels: Numbers,
    groups: Numbers,
    background: Background,
    *,
    plan: Sequence[Split] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """Add a background head to a fit, if held-out examples allow it.

    Args:
        fitted: a fit of these examples.
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0.
        groups: ``(n,)`` near-duplicate groups.
        background: queries of no category.
        plan: the splits that ``fitted`` was validated on; None for its default ones.
        seed: the seed of ``fitted``.
        progress: called with a step's name, the number done and the total.

    Returns:
        A fit with the head, thresholds and calibration of its scores; ``fitted`` with the reason in its report, where
        too few examples are held out, where nearly all of the background is close to the categories, or where the head
        does not separate held-out examples from held-out background queries better than the scores alone.
    """
    held = fitted.held
    if held is None or fitted.groups is None:
        return _without(fitted, "too few examples to hold any out")
    rows, category_of_row = group_means(vectors, labels, groups)
    alike = float(np.median(held.scores.max(axis=1)))
    kept = background.vectors[is_foreign(background.vectors, rows, category_of_row)]
    kept = kept[fitted.scorer.scores(kept).max(axis=1) < alike] if len(kept) else kept
    if len(kept) < FEWEST:
        return _without(fitted, f"only {len(kept)} of its queries belong to no category")
    plan = splits(labels, groups, seed=seed) if plan is None else usable_plan(plan, groups)
    parts = np.random.default_rng(seed).permutation(len(kept)) % max(2, len(plan))
    data = [
        _classes(*group_means(vectors[split.fit], labels[split.fit], groups[split.fit]), kept[parts != number])
        for number, split in enumerate(plan)
    ]
    settings = HeadPlan(hidden=128, smoothing=0.1, epochs=12, fewest_steps=150, most_steps=1500, seed=seed)
    progress("background", 0, len(plan) + 1)
    classes = int(labels.max()) + 2
    *heads, head = train_heads(
        [*data, _classes(rows, category_of_row, kept)],
        classes,
        settings,
        lambda done: progress("background", done, len(plan) + 1),
    )
    shares = _held_shares(heads, plan, vectors, groups, fitted.groups)
    foreign = _foreign_scores(fitted, [(trained, kept[parts == number]) for number, trained in enumerate(heads)])
    plain = float(auroc(held.scores.max(axis=1), foreign[0].max(axis=1)) or 0.0)
    weight = background_share(plain)
    scores = blend_background(held.scores, shares, weight)
    separation = float(auroc(scores.max(axis=1), blend_background(*foreign, weight).max(axis=1)) or 0.0)
    if separation <= plain:
        return _without(fitted, "it does not separate held-out examples from other queries")
    figures = {"weight": weight, "auroc": separation, "auroc_without": plain}
    report = {**fitted.report, "background": {"queries": len(kept), **figures}}
    scorer = replace(fitted.scorer, background=head, background_weight=weight)
    return complete_fit(scorer, report, HeldOutScores(scores, held.labels), fitted.groups)


def background_share(separation: float) -> float:
    """Return the share of the background head in a score.

    It is :data:`GAIN` times what the scores alone lack, at most :data:`MOST`.

    Args:
        separation: AUROC of the scores alone, between held-out examples and background queries.
    """
    return min(MOST, GAIN * (1.0 - separation))


def is_foreign(background: Matrix, rows: Matrix, labels: Numbers) -> NDArray[np.bool_]:
    """Return a mask of the background queries that are close to no example.

    Args:
        background: ``(b, d)`` unit rows.
        rows: ``(n, d)`` unit rows, one for each group of near-duplicate examples.
        labels: ``(n,)`` their categories.
    """
    own = np.full(len(rows), -1.0, np.float32)
    for category in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == category)
        if len(members) > 1:
            cosines = rows[members] @ rows[members].T
            np.fill_diagonal(cosines, -1.0)
            own[members] = cosines.max(axis=1)
    compared = own[own > -1.0]
    if not len(compared):
        return np.ones(len(background), np.bool_)
    close = np.quantile(compared, CLOSE)
    nearest = np.concatenate([(part @ rows.T).max(axis=1) for part in np.array_split(background, 16) if len(part)])
    return np.asarray(nearest < close)


def _classes(rows: Matrix, labels: Numbers, background: Matrix) -> tuple[Matrix, Numbers]:
    """Return both as the classes of one head, the examples repeated to about as many as the background."""
    repeats = min(MAX_REPEATS, max(1, round(len(background) / len(rows))))
    vectors = np.concatenate([np.repeat(rows, repeats, axis=0), background])
    other = np.full(len(background), labels.max(initial=-1) + 1, np.int64)
    return vectors, np.concatenate([np.repeat(labels, repeats), other])


def _held_shares(
    heads: Sequence[MlpHead], plan: Sequence[Split], vectors: Matrix, groups: Numbers, order: Numbers
) -> NDArray[np.float64]:
    """Return the in-scope share of each held-out group, in the order of the fit's rows."""
    share_of: dict[int, float] = {}
    for head, split in zip(heads, plan, strict=True):
        shares = in_scope_share(head.probabilities(vectors[split.held]))
        means = mean_by_group(shares[:, None].astype(np.float32), groups[split.held])[:, 0]
        share_of.update(zip(np.unique(groups[split.held]).tolist(), means.tolist(), strict=True))
    return np.array([share_of[group] for group in order.tolist()])


def _foreign_scores(fitted: Fitted, foreign: Sequence[tuple[MlpHead, Matrix]]) -> tuple[Matrix, NDArray[np.float64]]:
    """Return the scores and in-scope shares of held-out background queries."""
    scores = [fitted.scorer.scores(vectors) for _, vectors in foreign]
    shares = [in_scope_share(head.probabilities(vectors)) for head, vectors in foreign]
    return np.concatenate(scores), np.concatenate(shares)


def _without(fitted: Fitted, reason: str) -> Fitted:
    return replace(fitted, report={**fitted.report, "background": {"queries": 0, "left_out": reason}})

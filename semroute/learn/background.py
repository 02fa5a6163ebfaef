"""Train the background head: examples against queries of no category.

A build knows the user's examples and nothing of what else will be asked. ``background.txt`` stands for that: some
3,700 queries on errands, devices, travel, pets, trades and nonsense, in sixteen languages, which
``scripts/make_background.py`` writes. A small head learns all categories and one more class, the background, and of a
query, ``p(best) / (p(best) + p(other))`` is blended into the scores of all categories
(:func:`semroute.index.scoring.blend_background`). So the best category stays the best, and scores stay on one scale.

A user's categories may be about anything, and so about some of these queries. Left out are those as close to an example
as examples are to each other, and those that score like held-out examples. These decide whether a background is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property
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
from semroute.learn.fit import USUAL_OPTIONS, FitOptions, Fitted, HeldOutScores, Split, complete_fit, mean_by_group
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

CLOSE = 0.85
"""Quantile of the cosines between examples and their nearest neighbours, other than near-duplicates, in their category:
from there on a background query counts as one of the category's. At the median, a third of the background was close to
one short example or another of the shipped categories, nonsense for the most part; the separation of their held-out
examples from queries of other kinds in CLINC150's validation rows rises from .899 to .918, and with the domains and
intents of CLINC150 themselves it stays within .002."""

FEWEST = 300
"""Background queries below which none are used: the categories are about most of them."""

MAX_REPEATS = 200
CACHED = 4
"""Files of vectors kept in the user's cache folder, one for each encoder."""

Numbers = NDArray[np.int64]


class Background:
    """Queries of no category, embedded when their vectors are first used.

    A build that reuses a fit needs no more than the digest.

    Args:
        digest: of the texts.
        embed: computes ``(n, d)`` unit rows.
    """

    def __init__(self, digest: str, embed: Callable[[], Matrix]) -> None:
        self.digest = digest
        self._embed = embed

    @cached_property
    def vectors(self) -> Matrix:
        """Return ``(n, d)`` unit rows."""
        return self._embed()


@cache
def background_texts() -> tuple[str, ...]:
    """Return the queries of no category."""
    content = (files("semroute.learn") / "background.txt").read_text("utf-8")
    return tuple(line for line in content.splitlines() if line)


def background_of(encoder: Encoder, progress: Progress = silent) -> Background | None:
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
    digest = hashlib.sha256("\n".join(background_texts()).encode()).hexdigest()
    return Background(digest, lambda: _vectors(plain, digest, progress))


def background_for(
    encoder: Encoder, wanted: bool, staged: bool, progress: Progress = silent
) -> tuple[Background | None, dict[str, Any]]:
    """Return the background that a build uses, and entries of its report.

    Args:
        encoder: the encoder of the index.
        wanted: whether validation may use a background.
        staged: whether there is to be a first stage: its scores would be held to the thresholds of other scores.
        progress: as for :func:`background_of`.

    Returns:
        None with the reason as an entry where one is wanted and cannot be used; no entry where none is wanted.
    """
    if not wanted:
        return None, {}
    if staged:
        return None, _report("not beside a first stage, whose scores are on another scale")
    background = background_of(encoder, progress)
    if background is None:
        return None, _report("not with this encoder, for which each of its queries may cost money or time")
    return background, {}


def _vectors(encoder: Encoder, digest: str, progress: Progress) -> Matrix:
    """Return the vectors of the background, cached in the user's folder."""
    texts = background_texts()
    name = hashlib.sha256(f"{digest} {encoder.fingerprint}".encode()).hexdigest()[:16]
    path = platformdirs.user_cache_path("semroute") / f"background-{name}.npy"
    halves = _cached(path, (len(texts), encoder.dimensions))
    if halves is None:
        halves = _embed(encoder, texts, progress).astype(np.float16)
        _keep(path, halves)
    vectors = halves.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors)


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
    """Store vectors for the next build, if there is a cache folder."""
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
    options: FitOptions = USUAL_OPTIONS,
) -> Fitted:
    """Add a background head to a fit, if held-out examples allow it.

    Args:
        fitted: a fit of these examples.
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0.
        groups: ``(n,)`` near-duplicate groups.
        background: queries of no category.
        options: the settings of ``fitted``.

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
    plan = options.splits(labels, groups)
    parts = np.random.default_rng(options.seed).permutation(len(kept)) % max(2, len(plan))
    data = [
        _classes(*group_means(vectors[split.fit], labels[split.fit], groups[split.fit]), kept[parts != number])
        for number, split in enumerate(plan)
    ]
    *heads, head = _trained([*data, _classes(rows, category_of_row, kept)], options)
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


def _trained(data: Sequence[tuple[Matrix, Numbers]], options: FitOptions) -> list[MlpHead]:
    """Return a head for each set of vectors, whose last class is background."""
    settings = HeadPlan(hidden=128, smoothing=0.1, epochs=12, fewest_steps=150, most_steps=1500, seed=options.seed)
    options.progress("background", 0, len(data))
    classes = int(data[-1][1].max()) + 1
    return train_heads(data, classes, settings, lambda done: options.progress("background", done, len(data)))


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
    """Return the classes of one head: examples and background, balanced.

    Examples are repeated to about as many as the background.
    """
    repeats = min(MAX_REPEATS, max(1, round(len(background) / len(rows))))
    vectors = np.concatenate([np.repeat(rows, repeats, axis=0), background])
    other = np.full(len(background), labels.max(initial=-1) + 1, np.int64)
    return vectors, np.concatenate([np.repeat(labels, repeats), other])


def _held_shares(
    heads: Sequence[MlpHead], plan: Sequence[Split], vectors: Matrix, groups: Numbers, order: Numbers
) -> NDArray[np.float64]:
    """Return the in-scope share of held-out groups, in order of the rows."""
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
    return replace(fitted, report={**fitted.report, **_report(reason)})


def _report(reason: str) -> dict[str, Any]:
    return {"background": {"queries": 0, "left_out": reason}}

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROUTING_EXAMPLES
from hypothesis import given
from hypothesis import strategies as st

from semroute.encoders.cache import CachedEncoder
from semroute.encoders.export import ExportedEncoder
from semroute.encoders.onnx import OnnxEncoder
from semroute.index import Artifact, open_artifact
from semroute.index.scoring import blend_background, in_scope_share
from semroute.learn import background as module
from semroute.learn.artifact import Examples, build_artifact
from semroute.learn.background import (
    MOST,
    Background,
    background_for,
    background_of,
    background_share,
    background_texts,
    is_foreign,
    with_background,
)
from semroute.learn.fit import FitOptions, Fitted, fit
from semroute.learn.reuse import stored_scorer
from semroute.router.load import stage_scorer
from semroute.types import Matrix

DIMENSIONS = 32


def unit(rows: Matrix) -> Matrix:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def around(directions: list[int], count: int, seed: int) -> Matrix:
    """Rows near the axes of these numbers, ``count`` each."""
    random = np.random.default_rng(seed)
    noise = 0.15 * random.standard_normal((len(directions) * count, DIMENSIONS), dtype=np.float32)
    return unit(np.eye(DIMENSIONS, dtype=np.float32)[np.repeat(directions, count)] + noise)


@pytest.fixture(scope="module")
def examples() -> tuple[Matrix, np.ndarray]:
    return around([0, 1, 2], 40, seed=0), np.repeat([0, 1, 2], 40)


@pytest.fixture(scope="module")
def plain(examples: tuple[Matrix, np.ndarray]) -> Fitted:
    return fit(*examples, options=FitOptions(head=False))


def added(plain: Fitted, examples: tuple[Matrix, np.ndarray], vectors: Matrix) -> Fitted:
    rows, labels = examples
    return with_background(plain, rows, labels, np.arange(len(rows)), Background("x", lambda: vectors))


def test_queries_like_the_background_score_lower_and_the_best_category_stays(
    plain: Fitted, examples: tuple[Matrix, np.ndarray]
) -> None:
    # Between two categories and something else: half alike, which the cosine alone does not tell from an example.
    foreign = unit(around([0, 1, 2], 150, seed=1) + 1.2 * around([10, 11, 12], 150, seed=2))
    fitted = added(plain, examples, foreign)
    assert fitted.report["background"]["weight"] == fitted.scorer.background_weight > 0
    assert fitted.scorer.background_weight == background_share(fitted.report["background"]["auroc_without"])
    assert fitted.report["background"]["auroc"] > fitted.report["background"]["auroc_without"]
    asked = unit(around([0, 1, 2], 20, seed=3) + 1.2 * around([10, 11, 12], 20, seed=4))
    inside = around([0, 1, 2], 20, seed=5)
    for queries in (asked, inside):
        before, after = plain.scorer.scores(queries), fitted.scorer.scores(queries)
        np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    thresholds = fitted.thresholds
    assert (fitted.scorer.scores(inside).max(axis=1) >= thresholds.max()).mean() > 0.9
    assert (fitted.scorer.scores(asked).max(axis=1) < thresholds.min()).mean() > 0.9


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_better_the_scores_reject_alone_the_less_the_background_counts(one: float, other: float) -> None:
    better, worse = max(one, other), min(one, other)
    assert 0 <= background_share(better) <= background_share(worse) <= MOST
    assert background_share(1.0) == 0


@pytest.mark.slow
def test_two_builds_take_shares_by_how_well_their_scores_reject(
    plain: Fitted, examples: tuple[Matrix, np.ndarray]
) -> None:
    def share_of_foreign(distance: float) -> float:
        foreign = unit(around([0, 1, 2], 150, seed=1) + distance * around([10, 11, 12], 150, seed=2))
        return added(plain, examples, foreign).scorer.background_weight

    assert share_of_foreign(0.6) > share_of_foreign(0.9) > 0


def test_a_background_about_the_categories_is_not_used(plain: Fitted, examples: tuple[Matrix, np.ndarray]) -> None:
    fitted = added(plain, examples, around([0, 1, 2], 200, seed=6))
    assert fitted.scorer.background is None
    assert fitted.report["background"]["left_out"].startswith("only ")
    np.testing.assert_array_equal(fitted.thresholds, plain.thresholds)


def test_without_held_out_examples_there_is_no_background(examples: tuple[Matrix, np.ndarray]) -> None:
    rows, labels = examples[0][[0, 40, 80]], np.arange(3)
    fitted = with_background(
        fit(rows, labels), rows, labels, np.arange(3), Background("x", lambda: around([9], 400, seed=7))
    )
    assert fitted.scorer.background is None
    assert "too few" in fitted.report["background"]["left_out"]


def test_close_queries_count_as_the_categories_own(examples: tuple[Matrix, np.ndarray]) -> None:
    rows, labels = examples
    mask = is_foreign(np.concatenate([rows[:5], around([20], 5, seed=8)]), rows, labels)
    assert mask.tolist() == [False] * 5 + [True] * 5


@given(st.lists(st.lists(st.floats(0.001, 1), min_size=4, max_size=4), min_size=1, max_size=5), st.floats(0, 1))
def test_blended_scores_keep_the_order_and_the_scale(numbers: list[list[float]], weight: float) -> None:
    probabilities = np.array(numbers, np.float32)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    shares = in_scope_share(probabilities)
    assert ((shares >= 0) & (shares <= 1)).all()
    scores = probabilities[:, :3]
    blended = blend_background(scores, shares, weight)
    assert blended.dtype == np.float32
    assert ((blended >= 0) & (blended <= 1 + 1e-6)).all()
    if weight < 0.999:
        rows = np.arange(len(scores))
        assert (blended[rows, scores.argmax(axis=1)] >= blended.max(axis=1) - 1e-6).all()


def test_the_shipped_queries_are_many_distinct_and_small() -> None:
    texts = background_texts()
    assert len(texts) == len(set(texts)) > 3000
    assert sum(len(text.encode()) for text in texts) < 500_000
    assert sum(not text.isascii() for text in texts) > 150


def test_vectors_are_kept_and_only_the_own_encoders_get_any(
    exported_encoder: ExportedEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.platformdirs, "user_cache_path", lambda name: tmp_path)
    monkeypatch.setattr(module, "background_texts", lambda: ("boil an egg", "qwpo"))
    encoder = exported_encoder.load()
    first = background_of(encoder)
    assert first is not None
    assert first.vectors.shape == (2, encoder.dimensions)
    monkeypatch.setattr(OnnxEncoder, "encode", None)
    second = background_of(CachedEncoder(encoder, 1))
    assert second is not None
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert background_of(object()) is None  # type: ignore[arg-type]


def test_a_background_that_cannot_be_used_says_why(exported_encoder: ExportedEncoder) -> None:
    encoder = exported_encoder.load()
    background, report = background_for(encoder, wanted=True, staged=False)
    assert background is not None
    assert report == {}
    assert background_for(encoder, wanted=False, staged=True) == (None, {})
    reasons = []
    for other, staged in ((encoder, True), (object(), False)):
        none, report = background_for(other, wanted=True, staged=staged)  # type: ignore[arg-type]
        assert none is None
        reasons.append(report["background"]["left_out"])
    assert "first stage" in reasons[0]
    assert "encoder" in reasons[1]


@pytest.mark.slow
def test_a_reused_fit_needs_no_vectors_of_the_background(exported_encoder: ExportedEncoder, tmp_path: Path) -> None:
    texts = [f"{word} {number}" for word in ("boil", "compile") for number in range(260)]
    owners = tuple(word for word in ("boil", "compile") for _ in range(260))
    examples = Examples(tuple(texts), owners, {"boil": "", "compile": ""}, {"boil": (), "compile": ()}, {})
    encoder = exported_encoder.load()
    vectors = unit(np.random.default_rng(0).standard_normal((len(texts), encoder.dimensions)).astype(np.float32))
    groups, asked = np.arange(len(texts)), []

    def build(name: str, previous: Artifact | None = None) -> Artifact:
        background = Background("x", lambda: asked.append(name) or vectors[:400])  # type: ignore[func-returns-value]
        options = FitOptions(head=False)
        return build_artifact(
            tmp_path / name, examples, vectors, encoder,
            groups=groups, options=options, background=background, previous=previous,
        )[0]  # fmt: skip

    build("again", build("first"))
    assert asked == ["first"]


@pytest.mark.slow
def test_an_index_keeps_its_background_head(exported_encoder: ExportedEncoder, tmp_path: Path) -> None:
    own = {str(number): ROUTING_EXAMPLES[name] for number, name in enumerate(sorted(ROUTING_EXAMPLES))}
    names = list(own)  # which say nothing, and so are no examples: with those, scores alone would separate all
    texts = [text for name in names for text in own[name]]
    examples = Examples(
        texts=tuple(texts),
        owners=tuple(name for name in names for _ in own[name]),
        descriptions=dict.fromkeys(names, ""),
        models=dict.fromkeys(names, ()),
        pinned={},
    )
    encoder = exported_encoder.load()
    vectors = encoder.encode(texts)
    foreign = unit(np.random.default_rng(0).standard_normal((400, encoder.dimensions)).astype(np.float32))
    background = Background("x", lambda: foreign)
    artifact, scorer, _ = build_artifact(
        tmp_path / "index", examples, vectors, encoder, options=FitOptions(head=False), background=background
    )
    assert artifact.manifest.background == scorer.background_weight > 0
    opened = open_artifact(tmp_path / "index")
    for stored in (stage_scorer(opened.main, opened.folder), stored_scorer(opened)):
        assert stored is not None
        np.testing.assert_allclose(stored.scores(vectors), scorer.scores(vectors), atol=1e-6)
    assert not np.allclose(scorer.scores(vectors), replace(scorer, background=None).scores(vectors))

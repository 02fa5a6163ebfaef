from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semroute.config import CategoryOverride, Config
from semroute.data.examples import LabelledQuery
from semroute.data.queries import read_labelled
from semroute.encoders.onnx import OnnxEncoder
from semroute.encoders.static import StaticEncoder
from semroute.errors import ArtifactError, EncoderError
from semroute.index import open_artifact
from semroute.index.manifest import MANIFEST
from semroute.index.scoring import answers
from semroute.learn.artifact import with_thresholds
from semroute.router import Router
from semroute.router.load import LoadedIndex, nearest_examples, open_first_stage
from semroute.types import Decision, Matrix
from semroute.workflows.measure import measure, score_by_stage, time_queries

SURE = "recipe for carrot soup"
UNSURE = "zxqv blorp"
QUERIES = [SURE, UNSURE, "how do I boil an egg", "my landlord", "why is it so", "explain git rebase", "भाषा"]


@pytest.fixture
def router(staged_index: Path) -> Router:
    return Router.load(staged_index, config=Config())


@pytest.fixture
def folder(staged_index: Path, tmp_path: Path) -> Path:
    return shutil.copytree(staged_index, tmp_path / "index")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Every text that either encoder is given from here on."""
    seen: dict[str, list[str]] = {"static": [], "onnx": []}
    for kind, encoder in (("static", StaticEncoder), ("onnx", OnnxEncoder)):
        monkeypatch.setattr(encoder, "encode", _counting(encoder.encode, seen[kind]))
    return seen


def _counting(encode: Callable[..., Matrix], seen: list[str]) -> Callable[..., Matrix]:
    def counting(self: object, texts: Sequence[str]) -> Matrix:
        seen.extend(texts)
        return encode(self, texts)

    return counting


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    (folder / MANIFEST).write_text(json.dumps(values))


def test_a_sure_query_never_reaches_the_transformer(router: Router, embedded: dict[str, list[str]]) -> None:
    decision = router.route(SURE)
    assert embedded == {"static": [SURE], "onnx": []}
    assert decision.category == "cooking"
    assert decision.reason.startswith("the first stage is sure: closest to cooking: ")
    assert list(decision.steps_ms) == ["first_stage"]
    assert decision.elapsed_ms == decision.steps_ms["first_stage"] > 0


@pytest.mark.slow
def test_an_unsure_query_is_decided_as_without_a_first_stage(
    router: Router, routing_index: Path, embedded: dict[str, list[str]]
) -> None:
    decision = router.route(UNSURE)
    assert embedded == {"static": [UNSURE], "onnx": [UNSURE]}
    assert list(decision.steps_ms) == ["first_stage", "encode", "score"]
    assert decision.elapsed_ms == pytest.approx(sum(decision.steps_ms.values()))
    plain = Router.load(routing_index, config=Config()).route(UNSURE)
    assert _untimed(decision) == _untimed(plain)


def _untimed(decision: Decision) -> Decision:
    opinions = tuple(replace(opinion, elapsed_ms=0) for opinion in decision.opinions)
    return replace(decision, elapsed_ms=0, steps_ms={}, opinions=opinions)


def test_a_batch_is_decided_as_its_queries_are_one_by_one(router: Router, embedded: dict[str, list[str]]) -> None:
    together = router.route_many(QUERIES)
    assert embedded["static"] == QUERIES
    sure = [decision.query for decision in together if "encode" not in decision.steps_ms]
    assert 0 < len(sure) < len(QUERIES)
    assert embedded["onnx"] == [query for query in QUERIES if query not in sure]
    for decision in together:
        alone = router.route(decision.query)
        assert (alone.category, alone.reason) == (decision.category, decision.reason)
        assert alone.score == pytest.approx(decision.score, abs=1e-6)
        assert alone.confidence == pytest.approx(decision.confidence, abs=1e-6)
        assert list(alone.steps_ms) == list(decision.steps_ms)


def test_the_first_stage_answers_by_the_rule_with_its_own_calibration(router: Router) -> None:
    live = router.live
    assert live.first is not None
    scores = live.first.scorer.scores(live.first.encoder.encode(QUERIES))
    expected = answers(scores, live.semantic.thresholds, live.first.bar)
    decisions = router.route_many(QUERIES)
    assert [d.reason.startswith("the first stage") for d in decisions] == expected.tolist()
    confidence = live.first.scorer.confidence(scores)
    for row in np.flatnonzero(expected):
        assert decisions[row].confidence == pytest.approx(confidence[row])
        assert decisions[row].score == pytest.approx(scores[row].max())


@pytest.mark.slow
def test_a_query_below_its_configured_threshold_in_the_first_stage_goes_to_the_transformer(
    staged_index: Path, embedded: dict[str, list[str]]
) -> None:
    high = Config(categories={"cooking": CategoryOverride(threshold=1.0)})
    decision = Router.load(staged_index, config=high).route(SURE)
    assert SURE in embedded["onnx"]
    assert decision.is_fallback
    assert decision.reason.startswith("nothing here fits: closest to cooking, but")
    router = Router.load(staged_index, config=Config(categories={"law": CategoryOverride(threshold=1.0)}))
    assert list(router.route(SURE).steps_ms) == ["first_stage"]


def test_both_stages_remember_recent_vectors(router: Router, embedded: dict[str, list[str]]) -> None:
    first = [router.route(query).score for query in (SURE, UNSURE)]
    assert [router.route(query).score for query in (SURE, UNSURE)] == first
    assert embedded == {"static": [SURE, UNSURE], "onnx": [UNSURE]}


def test_timing_runs_every_query_through_its_stages_although_the_caches_know_it(
    router: Router, embedded: dict[str, list[str]]
) -> None:
    router.route_many([SURE, UNSURE])
    time_queries(router, [SURE, UNSURE])
    assert embedded["static"].count(SURE) > 1
    assert embedded["onnx"].count(UNSURE) > 1
    assert SURE not in embedded["onnx"]


def test_without_blocking_the_event_loop_the_first_stage_answers_too(router: Router) -> None:
    assert list(asyncio.run(router.aroute(SURE)).steps_ms) == ["first_stage"]


@pytest.mark.slow
def test_the_nearest_examples_are_those_of_the_indexs_own_encoder(router: Router, routing_index: Path) -> None:
    decision = router.route(SURE)
    plain = LoadedIndex.open(routing_index, Config())
    assert nearest_examples(router.live, decision.query) == nearest_examples(plain, SURE)


def test_an_evaluation_has_the_figures_of_routing_each_query(router: Router, labelled: Path) -> None:
    rows = [*read_labelled(labelled), LabelledQuery(SURE, "cooking")]
    decisions = [router.route(row.query) for row in rows]
    measured = measure(router, rows)
    right = [decision.category == row.category for decision, row in zip(decisions, rows, strict=True)]
    assert measured.evaluation.accuracy == pytest.approx(sum(right) / len(rows))
    first = [list(decision.steps_ms) == ["first_stage"] for decision in decisions]
    assert measured.answered_first == pytest.approx(sum(first) / len(rows))
    scored, by_first = score_by_stage(router.live, rows)
    assert by_first.tolist() == first
    np.testing.assert_allclose(scored.scores.max(axis=1), [d.score for d in decisions], atol=1e-6)
    np.testing.assert_allclose(scored.confidence, [d.confidence for d in decisions], atol=1e-6)


@pytest.mark.slow
def test_an_index_without_a_first_stage_has_no_share_of_it(routing_index: Path) -> None:
    assert measure(Router.load(routing_index), [LabelledQuery(SURE, "cooking")]).answered_first is None


@pytest.mark.slow
def test_a_replaced_index_brings_and_takes_its_first_stage(own_staged_index: Path) -> None:
    artifact = open_artifact(own_staged_index)
    router = Router.load(own_staged_index)
    without = with_thresholds(artifact, {}, "in-scope", first_stage=None)
    router.reload()
    assert list(router.route(SURE).steps_ms) == ["encode", "score"]
    with_thresholds(without, {}, "in-scope", first_stage=artifact.manifest.first_stage)
    router.reload()
    assert list(router.route(SURE).steps_ms) == ["first_stage"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["first_stage"].__setitem__("dimensions", 96),
        lambda v: v["first_stage"]["encoder"].__setitem__("dimensions", 96),
        lambda v: v["first_stage"]["prototypes"].__setitem__("code", 99),
        lambda v: v["first_stage"]["prototypes"].pop("code"),
        lambda v: v["first_stage"]["prototypes"].__setitem__("tax", 1),
        lambda v: v["first_stage"].__setitem__("head", "mlp"),
        lambda v: v["first_stage"]["probes"].__setitem__(0, ["text", [1.0, 0.0]]),
        lambda v: v["first_stage"]["encoder"].__setitem__("kind", "telepathy"),
        lambda v: v["files"].pop("first_prototypes"),
        lambda v: v["files"].pop("first_encoder_model"),
        lambda v: v["files"].__setitem__("first_prototypes", v["files"]["prototypes"]),
        lambda v: v["files"].__setitem__("first_encoder_model", v["files"]["vectors"]),
    ],
)
def test_a_first_stage_that_does_not_fit_together_is_refused_at_the_start(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(folder, change)
    with pytest.raises((ArtifactError, EncoderError)):
        LoadedIndex.open(folder, Config())


@pytest.mark.slow
@pytest.mark.parametrize("role", ["first_prototypes", "first_encoder_model", "first_encoder_tokenizer"])
@pytest.mark.parametrize("harm", ["altered", "truncated", "missing"])
def test_a_harmed_file_of_the_first_stage_is_refused_and_named(folder: Path, role: str, harm: str) -> None:
    path = open_artifact(folder).files[role]
    content = path.read_bytes()
    path.unlink()
    if harm != "missing":
        path.write_bytes(content[:-9] if harm == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=path.name):
        LoadedIndex.open(folder, Config())


@pytest.mark.slow
def test_other_arithmetic_in_the_first_stage_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="semroute"):
        open_first_stage(open_artifact(folder))
        assert caplog.messages == []
        edit(folder, lambda v: v["first_stage"]["probes"][0].__setitem__(1, v["first_stage"]["probes"][1][1]))
        open_first_stage(open_artifact(folder))
    assert "embeds the index's probe texts differently" in caplog.text

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from predictors.query_quality.query_heads import MODELS, Made, costs_of, made, no_categories

from semroute.errors import ArtifactError, EncoderError, InputError
from semroute.evaluate.metrics import auroc
from semroute.learn.estimators import TrainingRows
from semroute.learn.finetuning import FineTuning, QualityModel, TunedPart, _batches, _loss, fine_tune, tune_part
from semroute.learn.query_quality import Setting, TrainedQueries, model_figures, train_queries, training_report
from semroute.predictors.quality_heads import TunedHead
from semroute.predictors.query_features import QueryInputs
from semroute.predictors.query_quality import read_query_classifier, write_query_classifier
from semroute.storage import MANIFEST

pytestmark = pytest.mark.torch

SETTING = Setting("print", costs_of(), no_categories())
PLAN = FineTuning(epochs=8, batch=16, rate=3e-3, line_rate=1e-2)
"""A transformer of random weights has all to learn."""


def rows_of(data: Made) -> TrainingRows:
    return TrainingRows.of(data.queries, data.vectors, data.quality, MODELS, no_categories())


@pytest.fixture(scope="module")
def backbone(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def tuned(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> TunedPart:
    return tune_part(str(backbone), rows_of(made(400, noise=0.0)), tmp_path_factory.mktemp("tuned"), PLAN)


@pytest.fixture(scope="module")
def trained(tuned: TunedPart) -> TrainedQueries:
    return train_queries(rows_of(made(400, noise=0.0)), SETTING, heads={}, tuned=tuned)


def test_a_tuned_encoder_separates_unseen_queries(tuned: TunedPart) -> None:
    new = made(200, seed=7, noise=0.0)
    said = tuned.head.predict(QueryInputs.of_texts(new.queries))[:, 0]
    good = new.quality[:, 0] == 1.0
    found = auroc(said[good], said[~good])
    assert found is not None
    assert found > 0.9


@pytest.mark.slow
def test_the_serving_classifier_predicts_as_trained(backbone: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    model = QualityModel(str(backbone), np.array([0.3, 0.9]), 64, tmp_path)
    torch.nn.init.normal_(model.module.lines.weight, std=0.3)
    queries = made(40).queries
    head = model.export(queries)
    np.testing.assert_allclose(head.predict(QueryInputs.of_texts(queries)), model.predict(queries), atol=0.05)
    alone = np.concatenate([head.predict(QueryInputs.of_texts([query])) for query in queries])
    np.testing.assert_allclose(alone, head.predict(QueryInputs.of_texts(queries)), atol=5e-3)


@pytest.mark.slow
def test_fine_tuning_begins_with_the_prior(backbone: Path, tmp_path: Path) -> None:
    model = QualityModel(str(backbone), np.array([0.3, 0.9]), 64, tmp_path)
    np.testing.assert_allclose(model.predict(["anything", ""]), [[0.3, 0.9]] * 2, atol=1e-6)


@pytest.mark.slow
def test_the_backbone_in_memory_is_left_as_it_is(backbone: Path, tmp_path: Path) -> None:
    import torch

    from semroute.encoders.export import load

    sentence = load(str(backbone))
    before = {name: weight.clone() for name, weight in sentence.state_dict().items()}
    data = made(60)
    fine_tune(sentence, data.queries, data.quality, tmp_path, replace(PLAN, epochs=1))
    assert all(torch.equal(weight, before[name]) for name, weight in sentence.state_dict().items())


@pytest.mark.slow
def test_tuning_is_deterministic_and_keeps_the_callers_random_state(backbone: Path, tmp_path: Path) -> None:
    import torch

    data = made(60)
    state = torch.get_rng_state()
    said = []
    for name in "ab":
        head = fine_tune(str(backbone), data.queries, data.quality, tmp_path / name, replace(PLAN, epochs=1))
        said.append(head.predict(QueryInputs.of_texts(data.queries)))
    np.testing.assert_allclose(said[0], said[1], atol=1e-3)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.slow
def test_unknown_answers_neither_count_nor_poison(backbone: Path, tmp_path: Path) -> None:
    import torch

    data = made(120, noise=0.0)
    holes = data.quality.copy()
    holes[::2, 0] = np.nan
    holes[:, 1] = np.nan
    head = fine_tune(str(backbone), data.queries, holes, tmp_path, replace(PLAN, epochs=1))
    said = head.predict(QueryInputs.of_texts(data.queries))
    assert np.isfinite(said).all()
    logits = torch.zeros(2, 2)
    known_alone = -np.log(0.5)
    assert float(_loss(logits, np.array([[1.0, np.nan], [0.25, np.nan]]))) == pytest.approx(known_alone)
    assert float(_loss(logits, np.full((2, 2), np.nan))) == 0.0


def test_every_row_is_in_one_batch_per_epoch_with_rows_of_its_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 120, 1000).tolist()
    batches = list(_batches(lengths, FineTuning(epochs=2)))
    seen = np.sort(np.concatenate(batches))
    np.testing.assert_array_equal(seen, np.repeat(np.arange(1000), 2))
    spread = np.mean([np.ptp(np.take(lengths, batch)) for batch in batches])
    assert spread < 20, "a random batch spreads over 110"


def test_only_the_left_out_fifth_validates(tuned: TunedPart, trained: TrainedQueries) -> None:
    data = rows_of(made(400, noise=0.0))
    assert len(tuned.judged) == pytest.approx(80, abs=2)
    np.testing.assert_array_equal(trained.judged, tuned.judged)
    assert trained.left_out.shape == (len(tuned.judged), 2)
    figures = model_figures(trained, data)["small"]
    assert figures.known == len(tuned.judged)
    report = training_report(trained, data, None, backbone="tiny", seed=0)
    assert report["trained"]["judged_on"] == len(tuned.judged)  # type: ignore[index]
    assert report["trained"]["fine_tuned"] == "tiny"  # type: ignore[index]


@pytest.mark.slow
def test_a_tuned_encoder_shares_the_stack_with_other_heads(tuned: TunedPart) -> None:
    from semroute.learn.estimators import ClusterEstimator

    data = rows_of(made(400, noise=0.0))
    found = train_queries(data, SETTING, heads={"clusters": ClusterEstimator()}, tuned=tuned)
    assert found.stack.weights["tuned"] > 0.5, "clusters know the topic, and this one knows sums too"
    losses = found.stack.losses
    assert losses["stack"] < 1.1 * losses["tuned"] < losses["clusters"]


def test_a_tuned_encoder_alone_needs_no_vectors(trained: TrainedQueries) -> None:
    queries = made(5).queries
    assert [head.kind for head in trained.classifier.heads] == ["tuned"]
    assert not trained.classifier.needs_vectors
    bare = trained.classifier.predict(queries, np.zeros((5, 0), np.float32))
    np.testing.assert_array_equal(bare, trained.classifier.predict(queries, made(5).vectors))


def test_a_tuned_head_is_read_back_as_written(trained: TrainedQueries, tmp_path: Path) -> None:
    write_query_classifier(trained.classifier, tmp_path / "c", report={})
    again, data = read_query_classifier(tmp_path / "c"), made(20, seed=1)
    np.testing.assert_allclose(
        again.predict(data.queries, data.vectors), trained.classifier.predict(data.queries, data.vectors), atol=1e-6
    )
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "c").iterdir())
    assert names == [".lock", MANIFEST, "encoder", "tokenizer", "weights"]
    write_query_classifier(again, tmp_path / "c", report={})
    assert len(list((tmp_path / "c").glob("encoder-*"))) == 1, "written over itself, whole"


@pytest.mark.slow
def test_training_without_a_tuned_encoder_removes_its_files(trained: TrainedQueries, tmp_path: Path) -> None:
    from semroute.learn.estimators import LinearEstimator

    write_query_classifier(trained.classifier, tmp_path / "c", report={})
    data = rows_of(made(100))
    plain = train_queries(data, SETTING, heads={"linear": LinearEstimator()}).classifier
    write_query_classifier(plain, tmp_path / "c", report={})
    assert any((tmp_path / "c").glob("encoder-*")), "for those who still read it"
    write_query_classifier(plain, tmp_path / "c", report={})
    assert not any((tmp_path / "c").glob("encoder-*"))


def test_damaged_files_are_named(trained: TrainedQueries, tmp_path: Path) -> None:
    write_query_classifier(trained.classifier, tmp_path / "c", report={})
    graph = next((tmp_path / "c").glob("encoder-*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"encoder-\w+\.onnx: damaged"):
        read_query_classifier(tmp_path / "c")
    graph.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_query_classifier(tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / MANIFEST).read_text())
    manifest["files"] = {}
    (tmp_path / "c" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="train it again"):
        read_query_classifier(tmp_path / "c")


@pytest.mark.slow
def test_an_invalid_backbone_is_named(tmp_path: Path) -> None:
    data = made(60)
    with pytest.raises(EncoderError, match="unknown model"):
        fine_tune(str(tmp_path), data.queries, data.quality, tmp_path / "out")


def test_too_few_different_queries_are_refused(backbone: Path, tmp_path: Path) -> None:
    data = made(3)
    with pytest.raises(InputError, match="cannot be split"):
        tune_part(str(backbone), rows_of(data), tmp_path)


@pytest.mark.slow
def test_a_pooled_tuned_head_of_another_pooling(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "cls", "cls", dense=True)
    data = made(40)
    head = fine_tune(str(folder), data.queries, data.quality, tmp_path / "out", replace(PLAN, epochs=1))
    assert isinstance(head, TunedHead)
    assert head.predict(QueryInputs.of_texts(data.queries)).shape == (40, 2)

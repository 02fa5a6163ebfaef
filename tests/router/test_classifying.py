from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semroute.config import Config
from semroute.errors import ArtifactError, ConfigError
from semroute.index import open_artifact
from semroute.learn.estimators import LinearEstimator, TrainingRows
from semroute.learn.query_quality import Setting, train_queries
from semroute.predictors.query_quality import CallCosts, read_query_classifier, write_query_classifier
from semroute.router import Router
from semroute.router.load import stage_encoder

MODELS = ("coder", "small", "large")
HARD = "calculate 3 + 5 = x^2"
EASY = "tell me about cats"


@pytest.fixture(scope="module")
def folder(routing_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learned that all models are good but at sums, which only the large one can do."""
    artifact = open_artifact(routing_index)
    encoder = stage_encoder(artifact.main, artifact.folder)
    queries = [f"calculate {i} + {i * 2} = x^2" if i % 2 else f"tell me about cats {i}" for i in range(80)]
    sums = np.arange(80) % 2 == 1
    quality = np.column_stack([~sums, ~sums, np.ones(80)]).astype(np.float64)
    price = np.array([[1e-6, 1e-6, 1e-4]] * 2)
    costs = CallCosts(MODELS, (), price, np.ones(3), np.full((1, 3), 100.0), np.zeros((1, 3)))
    setting = Setting(encoder.fingerprint, costs, np.zeros((0, encoder.dimensions), np.float32))
    rows = TrainingRows.of(queries, encoder.encode(queries), quality, MODELS, setting.categories)
    trained = train_queries(rows, setting, heads={"linear": LinearEstimator()})
    path = tmp_path_factory.mktemp("classifier") / "c"
    write_query_classifier(replace(trained.classifier, value=1.0), path, report={})
    return path


def config(folder: Path, **more: Any) -> Config:
    section = {"folder": str(folder), **more.pop("classifier", {})}
    return Config.model_validate({"strategies": ["classifier"], "classifier": section, **more})


@pytest.mark.slow
def test_the_classifier_sends_easy_queries_to_the_cheap_model_and_hard_ones_to_the_large(
    routing_index: Path, folder: Path
) -> None:
    router = Router.load(routing_index, config=config(folder))
    easy, hard = router.route(EASY), router.route(HARD)
    assert easy.model in ("coder", "small")
    assert hard.model == "large"
    assert hard.strategy == "classifier"
    assert not hard.is_fallback
    assert set(hard.candidates) == set(MODELS)
    assert "large" in hard.reason
    assert set(hard.steps_ms) == {"encode", "classifier"}
    assert [decision.model for decision in router.route_many([EASY, HARD])] == [easy.model, "large"]


@pytest.mark.slow
def test_its_folder_alone_may_be_written(routing_index: Path, folder: Path) -> None:
    plain = Config.model_validate({"strategies": ["classifier"], "classifier": str(folder)})
    assert Router.load(routing_index, config=plain).route(HARD).model == "large"


@pytest.mark.slow
def test_the_value_and_the_prices_of_the_configuration_count_at_once(routing_index: Path, folder: Path) -> None:
    cheap = Router.load(routing_index, config=config(folder, classifier={"value": 0.0}))
    assert cheap.route(HARD).model in ("coder", "small")
    free = config(folder, classifier={"value": 0.0}, models={"large": {"price": {"input": 0, "output": 0}}})
    assert Router.load(routing_index, config=free).route(HARD).model == "large"


@pytest.mark.slow
def test_after_a_category_that_narrows_it_chooses_among_its_models(routing_index: Path, folder: Path) -> None:
    narrowed = config(folder, strategies=["semantic", "classifier"], semantic={"mode": "narrow"})
    decision = Router.load(routing_index, config=narrowed).route("why does my python for loop never stop")
    assert decision.category == "code"
    assert set(decision.candidates) == {"coder", "large"}
    assert decision.strategy == "classifier"


@pytest.mark.slow
def test_candidates_are_those_of_the_configuration_else_those_with_a_deployment(
    routing_index: Path, folder: Path
) -> None:
    only = config(folder, classifier={"candidates": ["small"]})
    assert Router.load(routing_index, config=only).route(HARD).candidates == ("small",)
    place = {
        "name": "p",
        "model": "coder",
        "format": "openai",
        "base_url": "http://localhost:1/v1",
        "api_key_env": "KEY",
    }
    placed = config(folder, deployments=[place])
    assert Router.load(routing_index, config=placed).route(HARD).candidates == ("coder",)


@pytest.mark.slow
def test_a_classifier_that_cannot_serve_is_refused_when_the_router_is_loaded(
    routing_index: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="knows none of stranger"):
        Router.load(routing_index, config=config(folder, classifier={"candidates": ["stranger"]}))
    with pytest.raises(ArtifactError, match="semroute train OUTCOMES"):
        Router.load(routing_index, config=config(tmp_path / "nowhere"))
    write_query_classifier(replace(read_query_classifier(folder), encoder="other"), tmp_path / "other", report={})
    with pytest.raises(ArtifactError, match="an encoder other than"):
        Router.load(routing_index, config=config(tmp_path / "other"))


@pytest.mark.slow
def test_without_a_folder_it_is_not_asked(routing_index: Path) -> None:
    decision = Router.load(routing_index, config=Config()).route(EASY)
    assert "classifier" not in [opinion.strategy for opinion in decision.opinions]

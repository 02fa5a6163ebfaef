from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semroute.config import CategoryOverride, Config, Fallback
from semroute.errors import ArtifactError, ConfigError, EncoderError, SemrouteError
from semroute.index import Artifact, Manifest, PrototypeIndex, open_artifact, write_artifact
from semroute.index.manifest import MANIFEST
from semroute.predictors.category_head import MlpHead
from semroute.router.load import LoadedIndex, open_encoder, open_scorer


@pytest.fixture
def folder(routing_index: Path, tmp_path: Path) -> Path:
    return shutil.copytree(routing_index, tmp_path / "index")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    (folder / MANIFEST).write_text(json.dumps(values))


def head(dimensions: int, categories: int) -> MlpHead:
    shapes = [(dimensions, 4), (4,), (dimensions, categories), (4, categories), (categories,)]
    return MlpHead(*(np.zeros(shape, np.float32) for shape in shapes))


def with_file(artifact: Artifact, role: str, write: Callable[[Path], None], **changes: Any) -> Artifact:
    """The artifact with one file written anew: whole and verified, whatever is in it."""

    def files(staging: Path) -> dict[str, Path]:
        write(staging / f"{role}.npz")
        return {**artifact.files, role: staging / f"{role}.npz"}

    return write_artifact(artifact.folder, replace(artifact.manifest, **changes), files)


@pytest.mark.slow
def test_models_come_from_the_configuration_then_the_file_then_the_fallback(folder: Path) -> None:
    config = Config(categories={"code": CategoryOverride(models=("mine",))}, fallback=Fallback(models=("rest", "last")))
    live = LoadedIndex.open(folder, config)
    assert live.models == {"code": ("mine",), "cooking": ("small",), "law": ("rest", "last")}
    assert live.fallback == ("rest", "last")


@pytest.mark.slow
def test_a_configured_threshold_of_zero_goes_over_the_artifacts(folder: Path) -> None:
    live = LoadedIndex.open(folder, Config(categories={"law": CategoryOverride(threshold=0.0)}))
    assert live.semantic.thresholds.tolist() == [0.2, 0.2, 0.0]
    assert live.semantic.names == ("code", "cooking", "law")


@pytest.mark.slow
def test_a_configured_category_that_the_index_lacks_is_named_with_those_it_has(folder: Path) -> None:
    config = Config(categories={"medicine": CategoryOverride(threshold=0.5)})
    with pytest.raises(ConfigError, match=r"categories\.medicine: .*it has code, cooking, law"):
        LoadedIndex.open(folder, config)


@pytest.mark.slow
def test_a_machine_with_other_arithmetic_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="semroute"):
        open_encoder(open_artifact(folder))
        assert caplog.messages == []
        edit(folder, lambda values: values["probes"].__setitem__(0, [values["probes"][0][0], values["probes"][1][1]]))
        LoadedIndex.open(folder, Config())
    assert "embeds the index's probe texts differently" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.__setitem__("dimensions", 128),
        lambda v: v["encoder"].__setitem__("dimensions", 128),
        lambda v: v["categories"]["code"].__setitem__("prototypes", 99),
        lambda v: v["categories"].pop("code"),
        lambda v: v["files"].pop("prototypes"),
        lambda v: v["files"].pop("encoder_model"),
        lambda v: v["encoder"].__setitem__("kind", "telepathy"),
        lambda v: v["encoder"].pop("max_tokens"),
        lambda v: v.__setitem__("head", "mlp"),
        lambda v: v["probes"].__setitem__(0, ["text", [1.0, 0.0]]),
        lambda v: v["files"].__setitem__("prototypes", v["files"]["vectors"]),
        lambda v: v["files"].__setitem__("encoder_model", v["files"]["encoder_tokenizer"]),
        lambda v: v["encoder"].__setitem__("max_tokens", "many"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused_at_the_start(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(folder, change)
    with pytest.raises((ArtifactError, EncoderError)):
        LoadedIndex.open(folder, Config())


@pytest.mark.slow
@pytest.mark.parametrize(("dimensions", "categories"), [(384, 2), (128, 3)])
def test_a_head_for_other_categories_or_vectors_is_refused(folder: Path, dimensions: int, categories: int) -> None:
    artifact = with_file(open_artifact(folder), "head", head(dimensions, categories).write, head="mlp", weight=0.3)
    with pytest.raises(ArtifactError, match="other categories or other vectors"):
        open_scorer(artifact)


@pytest.mark.slow
def test_a_head_of_an_unknown_kind_is_refused(folder: Path) -> None:
    artifact = with_file(open_artifact(folder), "head", head(384, 3).write, head="forest", weight=0.3)
    with pytest.raises(ArtifactError, match='unknown kind "forest"'):
        open_scorer(artifact)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00"])
def test_a_head_that_is_no_archive_is_refused(folder: Path, content: bytes) -> None:
    def write(path: Path) -> None:
        path.write_bytes(content)

    artifact = with_file(open_artifact(folder), "head", write, head="mlp")
    with pytest.raises(ArtifactError, match="does not fit together"):
        open_scorer(artifact)


@pytest.mark.slow
def test_a_fitting_head_serves(folder: Path) -> None:
    artifact = with_file(open_artifact(folder), "head", head(384, 3).write, head="mlp", weight=0.5)
    scorer = open_scorer(artifact)
    vector = np.eye(384, dtype=np.float32)[:1]
    expected = 0.5 * scorer.prototypes.similarities(vector) + 0.5 / 3
    np.testing.assert_allclose(scorer.scores(vector), expected, atol=1e-6)


@pytest.mark.slow
def test_any_number_of_the_manifest_may_be_text_without_another_error_than_ours(folder: Path) -> None:
    for key in sorted(json.loads((folder / MANIFEST).read_text())):
        before = (folder / MANIFEST).read_text()
        edit(folder, lambda values, key=key: values.__setitem__(key, "text"))
        with contextlib.suppress(SemrouteError):
            LoadedIndex.open(folder, Config())
        (folder / MANIFEST).write_text(before)
    assert isinstance(open_scorer(open_artifact(folder)).prototypes, PrototypeIndex)
    assert isinstance(Manifest.read(folder), Manifest)

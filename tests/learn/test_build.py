from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from semroute.encoders.export import ExportedEncoder
from semroute.encoders.onnx import OnnxEncoder
from semroute.errors import EncoderError
from semroute.index import open_artifact
from semroute.learn import artifact as build
from semroute.learn.artifact import Examples, build_artifact, embed, with_thresholds
from semroute.learn.fit import FitOptions
from semroute.router.load import open_encoder, open_scorer
from semroute.types import Matrix


@pytest.fixture(scope="module")
def encoder(exported_encoder: ExportedEncoder) -> OnnxEncoder:
    return exported_encoder.load()


def examples(**texts: list[str]) -> Examples:
    return Examples(
        texts=tuple(text for found in texts.values() for text in found),
        owners=tuple(name for name, found in texts.items() for _ in found),
        descriptions=dict.fromkeys(texts, ""),
        models=dict.fromkeys(texts, ("small",)),
        pinned={"code": 0.0},
    )


TINY = {"law": ["is it legal", "my lease"], "code": ["fix a loop", "write a test", "fix a loop"]}


def test_arrays_are_in_alphabetical_order_of_the_categories() -> None:
    found = examples(law=["a"], code=["b", "c"])
    assert found.categories == ("code", "law")
    assert found.labels.tolist() == [1, 0, 0]


@pytest.mark.slow
def test_texts_are_embedded_in_chunks_and_in_order(encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CHUNK", 2)
    seen: list[tuple[str, int, int]] = []
    texts = ["one", "two", "three", "four", "five"]
    found = embed(encoder, texts, lambda *step: seen.append(step))
    np.testing.assert_allclose(found, encoder.encode(texts), atol=1e-5)
    assert seen == [("embedding", 2, 5), ("embedding", 4, 5), ("embedding", 5, 5)]
    assert embed(encoder, []).shape == (0, encoder.dimensions)


@pytest.mark.slow
def test_the_built_index_serves_the_validated_scores(encoder: OnnxEncoder, tmp_path: Path) -> None:
    given = examples(**TINY)
    vectors = embed(encoder, given.texts)
    built, scorer, _ = build_artifact(
        tmp_path, given, vectors, encoder, options=FitOptions(head=False), notes={"noted": 1}
    )
    artifact = open_artifact(tmp_path)
    assert artifact.manifest == built.manifest
    assert artifact.examples() == (list(given.owners), list(given.texts))
    np.testing.assert_array_equal(np.load(artifact.files["vectors"]), vectors)
    assert artifact.manifest.validation["noted"] == 1
    served = open_encoder(artifact)
    np.testing.assert_array_equal(served.encode(["fix it"]), encoder.encode(["fix it"]))
    np.testing.assert_array_equal(open_scorer(artifact).scores(vectors), scorer.scores(vectors))


@pytest.mark.slow
def test_a_pinned_threshold_of_zero_is_kept(encoder: OnnxEncoder, tmp_path: Path) -> None:
    given = examples(**TINY)
    artifact, *_ = build_artifact(tmp_path, given, embed(encoder, given.texts), encoder, options=FitOptions(head=False))
    entries = artifact.manifest.categories
    assert (entries["code"].threshold, entries["code"].threshold_from) == (0.0, "file")
    assert entries["law"].threshold_from == "in-scope"
    assert (entries["code"].examples, entries["law"].examples) == (3, 2)


@pytest.mark.slow
def test_the_same_build_twice_gives_the_same_files(encoder: OnnxEncoder, tmp_path: Path) -> None:
    given = examples(**TINY)
    vectors = embed(encoder, given.texts)
    first, again = (
        build_artifact(tmp_path / name, given, vectors, encoder, options=FitOptions(head=False))[0] for name in "ab"
    )
    assert first.manifest.files == again.manifest.files
    assert first.manifest.categories == again.manifest.categories


@pytest.mark.slow
def test_the_order_of_the_categories_and_their_examples_does_not_change_a_score(
    encoder: OnnxEncoder, tmp_path: Path
) -> None:
    def scores(given: Examples, name: str) -> Matrix:
        vectors = embed(encoder, given.texts)
        return build_artifact(tmp_path / name, given, vectors, encoder, options=FitOptions(head=False))[1].scores(query)

    query = encoder.encode(["does my contract allow it", "loop over a list"])
    turned = {name: TINY[name][::-1] for name in reversed(TINY)}
    np.testing.assert_allclose(scores(examples(**TINY), "a"), scores(examples(**turned), "b"), atol=1e-5)


@pytest.mark.slow
def test_other_thresholds_leave_files_and_other_categories_alone(routing_index: Path, tmp_path: Path) -> None:
    artifact = open_artifact(shutil.copytree(routing_index, tmp_path / "index"))
    changed = with_thresholds(artifact, {"law": 0.7}, "out-of-scope", validation={"tuned": True})
    assert open_artifact(changed.folder).manifest == changed.manifest
    assert changed.manifest.files == artifact.manifest.files
    assert changed.manifest.validation == {"tuned": True}
    assert changed.manifest.categories["law"].threshold == 0.7
    assert changed.manifest.categories["law"].threshold_from == "out-of-scope"
    assert changed.manifest.categories["code"] == artifact.manifest.categories["code"]


@pytest.mark.slow
def test_an_interrupt_while_the_encoder_is_stored_leaves_the_old_artifact(
    encoder: OnnxEncoder, routing_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(routing_index, tmp_path / "index")
    before = {path.name for path in folder.iterdir()}
    given = examples(**TINY)
    vectors = embed(encoder, given.texts)

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    for stage in ("save_encoder", "write_scorer"):
        with monkeypatch.context() as patched:
            patched.setattr(build, stage, interrupted)
            with pytest.raises(KeyboardInterrupt):
                build_artifact(folder, given, vectors, encoder, options=FitOptions(head=False))
        assert {path.name for path in folder.iterdir()} == before
        assert set(open_artifact(folder).manifest.categories) == {"code", "cooking", "law"}


def test_an_encoder_that_cannot_be_stored_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Foreign:
        name, fingerprint, dimensions = "foreign", "0", 2

        def encode(self, texts: Sequence[str]) -> Matrix:
            return np.eye(2, dtype=np.float32)[: len(texts)]

    vectors = np.eye(2, dtype=np.float32)
    given = examples(law=["a"], code=["b"])
    with pytest.raises(EncoderError, match="Foreign cannot be stored"):
        build_artifact(tmp_path / "index", given, vectors, Foreign(), options=FitOptions(head=False))
    assert not (tmp_path / "index").exists()


@pytest.mark.slow
def test_examples_with_line_breaks_of_any_kind_come_back_as_they_were(encoder: OnnxEncoder, tmp_path: Path) -> None:
    texts = ["a\nb", "a\u2028b", "a\x85b", "a\rb", "\ud83d half"]
    given = examples(code=texts)
    artifact, *_ = build_artifact(tmp_path, given, embed(encoder, texts), encoder, options=FitOptions(head=False))
    assert artifact.examples()[1] == texts
    assert len(json.loads(json.dumps(artifact.manifest.validation)))

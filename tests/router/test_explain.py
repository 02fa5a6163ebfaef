from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semroute.config import Config
from semroute.errors import ArtifactError
from semroute.router import load
from semroute.router.load import LoadedIndex, nearest_examples


@pytest.fixture(scope="module")
def live(routing_index: Path) -> LoadedIndex:
    return LoadedIndex.open(routing_index, Config())


def test_a_stored_example_is_its_own_nearest_with_a_cosine_of_one(live: LoadedIndex) -> None:
    best, *others = nearest_examples(live, "is my lease binding", 4)
    assert (best.category, best.query) == ("law", "is my lease binding")
    assert best.similarity == pytest.approx(1.0, abs=0.01)
    assert len(others) == 3


def test_they_are_the_highest_cosines_of_the_encoder_best_first(live: LoadedIndex) -> None:
    text = "boil a carrot"
    categories, texts = live.artifact.examples()
    cosines = live.encoder.encode(texts) @ live.encoder.encode([text])[0]
    found = nearest_examples(live, text, 18)
    assert [example.similarity for example in found] == pytest.approx(sorted(cosines, reverse=True), abs=0.01)
    assert {(e.category, e.query) for e in found} == set(zip(categories, texts, strict=True))


def test_looking_in_chunks_changes_nothing(live: LoadedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nearest_examples(live, "appeal", 18)
    monkeypatch.setattr(load, "CHUNK", 5)
    assert [e.query for e in nearest_examples(live, "appeal", 18)] == [e.query for e in whole]


def test_vectors_of_other_examples_are_an_error(live: LoadedIndex, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.zeros((2, 384), np.float32))
    files = {**live.artifact.files, "vectors": tmp_path / "vectors.npy"}
    with pytest.raises(ArtifactError, match="do not match"):
        nearest_examples(replace(live, artifact=replace(live.artifact, files=files)), "appeal")


def test_vectors_that_are_gone_are_an_error(live: LoadedIndex, tmp_path: Path) -> None:
    files = {**live.artifact.files, "vectors": tmp_path / "none.npy"}
    with pytest.raises(ArtifactError, match="load it again"):
        nearest_examples(replace(live, artifact=replace(live.artifact, files=files)), "appeal")

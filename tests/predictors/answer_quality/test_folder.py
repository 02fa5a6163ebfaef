from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictors.answer_quality.answer_heads import made
from predictors.damaged import ANY_JSON, paths, read_damaged

from semroute.errors import ArtifactError, InputError
from semroute.learn.answer_quality import train
from semroute.predictors.answer_quality import AnswerClassifier, read_classifier, write_classifier
from semroute.storage import MANIFEST


@pytest.fixture(scope="module")
def classifier() -> AnswerClassifier:
    return train(made(100), ("shape", "words"), folds=3).classifier


@pytest.fixture
def folder(classifier: AnswerClassifier, tmp_path: Path) -> Path:
    write_classifier(classifier, tmp_path / "c", report={"trained": {"answers": 100}})
    return tmp_path / "c"


def test_values_are_read_back_as_written(classifier: AnswerClassifier, folder: Path) -> None:
    found = read_classifier(folder)
    for field in fields(found):
        assert np.array_equal(getattr(found, field.name), getattr(classifier, field.name))
    assert found.probability("1 and 1?", "1 + 1 = 2") == classifier.probability("1 and 1?", "1 + 1 = 2")
    assert json.loads((folder / MANIFEST).read_text())["trained"] == {"answers": 100}


def test_a_new_artifact_replaces_the_old_and_removes_older_files(classifier: AnswerClassifier, folder: Path) -> None:
    for threshold in (0.6, 0.7, 0.8):
        write_classifier(
            replace(classifier, weights=classifier.weights * threshold, threshold=threshold), folder, report={}
        )
        assert read_classifier(folder).threshold == threshold
        assert len(list(folder.glob("weights-*"))) == 2, "a reader that has the manifest of before still finds its file"


def test_a_folder_with_other_files_is_not_written_to(classifier: AnswerClassifier, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        write_classifier(classifier, tmp_path, report={})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_file_is_noticed(folder: Path) -> None:
    (arrays,) = folder.glob("weights-*.npz")
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(ArtifactError, match="SHA-256"):
        read_classifier(folder)
    arrays.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_classifier(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "other", "not the manifest"),
        ("version", 2, "version 2"),
        ("features", ["one"], "other features"),
        ("blocks", ["shape"], None),
        ("features", None, '"features" must be a list of texts, not null'),
        ("blocks", "shape", '"blocks" must be a list of texts, not "shape"'),
        ("blocks", ["unheard of"], "other features"),
        ("bias", "much", '"bias" must be a number, not "much"'),
        ("threshold", None, '"threshold" must be a number from 0 to 1, not null'),
        ("threshold", 2, '"threshold" must be a number from 0 to 1, not 2'),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(folder: Path, key: str, value: object, words: str | None) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {key: value}))
    if words is None:  # the words are not looked at then, which is a classifier as well
        assert read_classifier(folder).blocks == ("shape",)
        return
    with pytest.raises(ArtifactError, match=words):
        read_classifier(folder)


@pytest.fixture(scope="module")
def kept(classifier: AnswerClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c")
    write_classifier(classifier, folder, report={})
    return folder


@pytest.mark.slow
@given(data=st.data())
def test_any_manifest_content_is_refused_or_serves(kept: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(json.loads((kept / MANIFEST).read_text()))))
    found = read_damaged(kept, path, data.draw(ANY_JSON), read_classifier)
    if found is not None:
        assert 0 <= found.probability("1 and 1?", "1 + 1 = 2") <= 1


def test_the_error_for_a_missing_classifier_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="semroute train-checks"):
        read_classifier(tmp_path / "none")
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_classifier(tmp_path)


@pytest.mark.parametrize("name", ["mean", "scale", "weights", "answer_words", "query_words"])
@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a[None], lambda a: a * np.nan, lambda a: a[:, None]])
def test_arrays_of_another_shape_or_without_finite_numbers_are_refused(
    classifier: AnswerClassifier, tmp_path: Path, name: str, change: Callable[[Any], Any]
) -> None:
    write_classifier(replace(classifier, **{name: change(getattr(classifier, name))}), tmp_path, report={})
    with pytest.raises(ArtifactError, match="train it again"):
        read_classifier(tmp_path)

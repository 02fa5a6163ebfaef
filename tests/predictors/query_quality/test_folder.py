from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from predictors.damaged import ANY_JSON, paths, read_damaged
from predictors.query_quality.query_heads import DIMENSIONS, MODELS, costs_of, made, no_categories

from semroute.errors import ArtifactError, InputError
from semroute.learn.estimators import TrainingRows
from semroute.learn.query_quality import Setting, train_queries
from semroute.predictors.quality_heads import TreesHead
from semroute.predictors.query_quality import FOLDER, QueryClassifier, read_query_classifier, write_query_classifier
from semroute.storage import MANIFEST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def classifier() -> QueryClassifier:
    data = made(240)
    setting = Setting("print", costs_of(), np.eye(2, DIMENSIONS, dtype=np.float32))
    return train_queries(
        TrainingRows.of(data.queries, data.vectors, data.quality, MODELS, setting.categories), setting
    ).classifier


def test_a_classifier_is_read_back_as_written(classifier: QueryClassifier, tmp_path: Path) -> None:
    write_query_classifier(replace(classifier, value=0.25), tmp_path / "c", report={"said": "something"})
    again, data = read_query_classifier(tmp_path / "c"), made(20, seed=1)
    np.testing.assert_array_equal(
        again.predict(data.queries, data.vectors), classifier.predict(data.queries, data.vectors)
    )
    assert (again.models, again.encoder, again.value) == (MODELS, "print", 0.25)
    np.testing.assert_array_equal(again.costs.expected([5]), classifier.costs.expected([5]))
    assert json.loads((tmp_path / "c" / MANIFEST).read_text())["said"] == "something"


def test_training_queries_are_recognised_ignoring_case_and_whitespace(
    classifier: QueryClassifier, tmp_path: Path
) -> None:
    write_query_classifier(classifier, tmp_path, report={})
    again, trained = read_query_classifier(tmp_path), made(240).queries
    found = again.has_seen([*trained, f" {trained[0].upper()}  ", f"{trained[0]} or not", ""])
    assert found is not None
    assert found.tolist() == [True] * 241 + [False] * 2
    assert again.has_seen([]).tolist() == []  # type: ignore[union-attr]  # it is known
    write_query_classifier(replace(classifier, seen=None), tmp_path, report={})
    assert read_query_classifier(tmp_path).has_seen(trained) is None


def test_an_infinite_value_is_null_in_the_manifest_and_infinite_again(
    classifier: QueryClassifier, tmp_path: Path
) -> None:
    write_query_classifier(classifier, tmp_path, report={})
    assert json.loads((tmp_path / MANIFEST).read_text())["value"] is None
    assert read_query_classifier(tmp_path).value == float("inf")


def test_a_second_training_replaces_the_first_whole(classifier: QueryClassifier, tmp_path: Path) -> None:
    write_query_classifier(classifier, tmp_path, report={})
    write_query_classifier(replace(classifier, slope=classifier.slope * 2), tmp_path, report={})
    assert len(list(tmp_path.glob("weights-*"))) == 2, "a reader of the first may still be at it"
    np.testing.assert_array_equal(read_query_classifier(tmp_path).slope, classifier.slope * 2)


def test_damage_is_named_with_what_to_do(classifier: QueryClassifier, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="semroute train OUTCOMES --out"):
        read_query_classifier(tmp_path / "nowhere")
    write_query_classifier(classifier, tmp_path, report={})
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    for change, said in (
        ({"features": ["other"]}, "other features"),
        ({"version": 99}, "version 99"),
        ({"format": "x"}, "not the manifest"),
        ({"models": ["one"]}, "train it again"),
        ({"heads": ["unheard of"]}, "train it again"),
    ):
        (tmp_path / MANIFEST).write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ArtifactError, match=said):
            read_query_classifier(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    arrays = tmp_path / manifest["arrays"]["file"]
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="SHA-256"):
        read_query_classifier(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("features", None, '"features" must be a list of texts, not null'),
        ("features", [1], '"features" must be a list of texts, not [1]'),
        ("models", "ab", '"models" must be a list of texts, not "ab"'),
        ("models", {"a": 1, "b": 2}, '"models" must be a list of texts, not {"a": 1, "b": 2}'),
        ("tasks", 5, '"tasks" must be a list of texts, not 5'),
        ("heads", None, '"heads" must be a list of texts, not null'),
        ("encoder", None, '"encoder" must be text, not null'),
        ("value", "0.5", '"value" must be a number from 0, or null, not "0.5"'),
        ("value", True, '"value" must be a number from 0, or null, not true'),
        ("value", -1.0, '"value" must be a number from 0, or null, not -1.0'),
        ("arrays", None, '"arrays" must be an object, not null'),
        ("files", [], '"files" must be an object, not []'),
        ("version", True, "version True"),
        ("tasks", ["one too many"], "not the arrays"),
    ],
)
def test_a_value_of_another_kind_is_named_with_file_and_key(
    classifier: QueryClassifier, tmp_path: Path, key: str, value: object, said: str
) -> None:
    write_query_classifier(classifier, tmp_path, report={})
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(ArtifactError) as caught:
        read_query_classifier(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "train it again" in str(caught.value)


@pytest.fixture(scope="module")
def folder(classifier: QueryClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c")
    write_query_classifier(classifier, folder, report={})
    return folder


@given(data=st.data())
def test_any_manifest_content_is_refused_or_serves(folder: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(json.loads((folder / MANIFEST).read_text()))))
    found = read_damaged(folder, path, data.draw(ANY_JSON), read_query_classifier)
    if found is not None:
        queries = made(2, seed=1)
        assert found.predict(queries.queries, queries.vectors).shape == (2, 2)
        assert found.costs.expected([1, 1], [*found.costs.tasks, "a", "b"][:2]).shape == (2, 2)


@given(raw=st.binary(max_size=30) | st.integers(0, 200_000).map(lambda depth: b"[" * depth))
def test_an_invalid_manifest_is_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = tmp_path_factory.mktemp("none")
    (folder / MANIFEST).write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"not the manifest|cannot be read"):
        read_query_classifier(folder)


def test_a_folder_with_other_files_is_left_alone(classifier: QueryClassifier, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="holds other files"):
        write_query_classifier(classifier, tmp_path, report={})


def test_predictions_are_probabilities_that_follow_the_training_data(classifier: QueryClassifier) -> None:
    data = made(200, seed=5, noise=0.0)
    found = classifier.predict(data.queries, data.vectors)
    assert found.dtype == np.float32
    assert ((found > 0) & (found < 1)).all()
    good = data.quality[:, 0] > 0.5
    assert found[good, 0].mean() > 0.75
    assert found[~good, 0].mean() < 0.25
    assert classifier.predict([], no_categories()).shape == (0, 2)


CHANGES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "shorter": lambda array: array[:-1],
    "narrower": lambda array: array[..., :-1],
    "deeper": lambda array: array[None],
    "flat": lambda array: array.reshape(-1),
    "a number": lambda array: array.reshape(-1)[0],
    "none": lambda array: array[:0],
    "nan": lambda array: array * np.nan,
    "huge": lambda array: array * 0 + np.asarray(2**30).astype(array.dtype),
    "negative": lambda array: array * 0 - 7 if array.dtype.kind != "u" else array,
    "text": lambda array: np.full(array.shape, "x"),
}


def test_arrays_of_which_one_was_changed_are_refused_or_serve(classifier: QueryClassifier, tmp_path: Path) -> None:
    write_query_classifier(classifier, tmp_path, report={})
    stored, data = FOLDER.read(tmp_path), made(5, seed=2)
    manifest = {key: value for key, value in stored.manifest.items() if key not in ("arrays", "files")}
    refused: Counter[str] = Counter()
    for name, array in stored.arrays.items():
        for what, change in CHANGES.items():
            with np.errstate(all="ignore"), contextlib.suppress(IndexError):
                changed = change(array if array.ndim or what in ("nan", "huge", "negative", "text") else array[None])
                FOLDER.write(tmp_path, manifest, {**stored.arrays, name: changed})
            try:
                read = read_query_classifier(tmp_path)
            except ArtifactError as error:
                refused[what] += 1
                if str(tmp_path) not in str(error):
                    raise AssertionError(f"does not name its folder: {error}") from error
            else:
                with np.errstate(all="ignore"):
                    assert read.predict(data.queries, data.vectors).shape == (5, len(MODELS))
    assert min(refused[what] for what in ("shorter", "narrower", "none", "nan", "text")) > 10, refused


@pytest.mark.parametrize(
    ("left", "right", "roots", "said"),
    [
        ([0, 1, 2], [2, 1, 2], [0], "two parents"),  # its own child: no leaf is ever reached
        ([1, 2, 2], [1, 2, 2], [0], "two parents"),  # each level doubles
        ([9, 1, 2], [2, 1, 2], [0], "two parents, or none"),
        ([-1, 1, 2], [2, 1, 2], [0], "two parents, or none"),
        ([1, 1, 2], [2, 1, 2], [0, 0], "two parents"),
        ([1, 1, 2], [2, 1, 2], [], "hold no trees"),
    ],
)
def test_nodes_that_are_no_trees_are_refused_and_not_followed(
    left: list[int], right: list[int], roots: list[int], said: str
) -> None:
    arrays = {
        "directions": np.zeros((DIMENSIONS, 1)), "feature": np.array([0, -1, -1]), "threshold": np.zeros(3),
        "left": np.array(left), "right": np.array(right), "values": np.zeros((3, 2)), "roots": np.array(roots),
        "bias": np.zeros(2),
    }  # fmt: skip
    with pytest.raises(ValueError, match=said):
        TreesHead.from_arrays(arrays)


def test_a_tree_that_compares_a_missing_column_is_refused(classifier: QueryClassifier, tmp_path: Path) -> None:
    arrays = {
        "directions": np.zeros((DIMENSIONS, 1)), "feature": np.array([10_000, -1, -1]), "threshold": np.zeros(3),
        "left": np.array([1, 1, 2]), "right": np.array([2, 1, 2]), "values": np.zeros((3, len(MODELS))),
        "roots": np.array([0]), "bias": np.zeros(len(MODELS)),
    }  # fmt: skip
    changed = replace(classifier, heads=(TreesHead.from_arrays(arrays),), weights=np.ones(1), novelty=None)
    write_query_classifier(changed, tmp_path, report={})
    with pytest.raises(ArtifactError, match="compares a column that does not exist"):
        read_query_classifier(tmp_path)

from __future__ import annotations

import pickle
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from semroute.predictors.category_head import MlpHead
from semroute.types import Matrix


def head(d: int = 6, h: int = 10, categories: int = 4, seed: int = 0) -> MlpHead:
    random = np.random.default_rng(seed)

    def array(*shape: int) -> Matrix:
        return random.normal(size=shape).astype(np.float32)

    return MlpHead(array(d, h), array(h), array(d, categories), array(h, categories), array(categories))


def queries(count: int, scale: float = 1.0) -> Matrix:
    return scale * np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.torch
def test_probabilities_are_those_of_the_same_layers_in_torch() -> None:
    import torch

    mlp, vectors = head(), queries(5)
    x, w = torch.from_numpy(vectors), {field.name: torch.from_numpy(getattr(mlp, field.name)) for field in fields(mlp)}
    active = torch.relu(torch.nn.functional.linear(x, w["hidden"].T, w["hidden_bias"]))
    logits = torch.nn.functional.linear(active, w["output"].T, w["output_bias"]) + x @ w["direct"]
    expected = torch.softmax(logits, dim=1).numpy()
    np.testing.assert_allclose(mlp.probabilities(vectors), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e6])
def test_rows_sum_to_one_however_large_the_logits(scale: float) -> None:
    found = head().probabilities(queries(7, scale))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)


def test_no_rows_give_no_rows() -> None:
    assert head().probabilities(np.zeros((0, 6), np.float32)).shape == (0, 4)


def test_the_weights_and_the_query_are_left_as_they_are() -> None:
    mlp, vectors = head(), queries(3)
    kept, first = vectors.copy(), mlp.probabilities(vectors)
    np.testing.assert_array_equal(vectors, kept)
    np.testing.assert_array_equal(mlp.probabilities(vectors), first)


def test_a_head_reads_as_it_was_written_and_holds_no_pickle(tmp_path: Path) -> None:
    mlp = head()
    mlp.write(tmp_path / "head.npz")
    read = MlpHead.read(tmp_path / "head.npz")
    for field in fields(MlpHead):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(mlp, field.name))
    with zipfile.ZipFile(tmp_path / "head.npz") as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                np.lib.format.read_magic(member)
                assert not np.lib.format.read_array_header_1_0(member)[2].hasobject


def test_the_same_head_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        head().write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "harmed",)

    (tmp_path / "head.npz").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ValueError, match="pickle"):
        MlpHead.read(tmp_path / "head.npz")
    objects = {field.name: np.array([Harm()], dtype=object) for field in fields(MlpHead)}
    np.savez(tmp_path / "objects.npz", **objects)
    with pytest.raises(ValueError, match="pickled objects, which are never loaded"):
        MlpHead.read(tmp_path / "objects.npz")
    assert not (tmp_path / "harmed").exists()


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "head.npz", hidden=np.zeros((2, 2)))
    with pytest.raises(KeyError, match="hidden_bias"):
        MlpHead.read(tmp_path / "head.npz")

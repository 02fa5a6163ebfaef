from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semroute.encoders import fingerprint
from semroute.encoders.static import distill_static
from semroute.errors import EncoderError

pytestmark = pytest.mark.torch

TEXTS = ["my invoice charged me twice", "integrate x squared", "Größe", "😀 ok", "hi"]


@pytest.mark.slow
def test_serving_gives_the_vectors_of_model2vec_without_it(
    tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import model2vec.distill

    made = []
    original = model2vec.distill.distill_from_model

    def keep(*arguments: object, **settings: object) -> object:
        made.append(original(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(model2vec.distill, "distill_from_model", keep)
    encoder = distill_static(tiny_model(tmp_path), tmp_path / "static", dimensions=32)
    expected = made[0].encode(TEXTS)
    np.testing.assert_allclose((encoder.encode(TEXTS) * expected).sum(axis=1), 1, atol=1e-3)
    assert encoder.dimensions == 32
    assert encoder.name == "static model"
    assert encoder.fingerprint == fingerprint.of_files(encoder.table_path, encoder.tokenizer_path)
    assert np.load(encoder.table_path).dtype == np.float16

    program = """
import sys
from semroute.encoders.static import StaticEncoder
StaticEncoder(sys.argv[1], sys.argv[2], name="x", fingerprint="x").encode(["hello"])
heavy = {"torch", "model2vec", "transformers", "onnxruntime"} & set(sys.modules)
assert not heavy, heavy
"""
    command = [sys.executable, "-c", program, str(encoder.table_path), str(encoder.tokenizer_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
def test_a_loaded_model_is_left_as_it_is_and_the_same_model_gives_the_same_files(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model(tmp_path)), device="cpu")
    before = model.encode(TEXTS, show_progress_bar=False)
    first = distill_static(model, tmp_path / "first", name="x", dimensions=16)
    second = distill_static(model, tmp_path / "second", name="x", dimensions=16)
    np.testing.assert_array_equal(model.encode(TEXTS, show_progress_bar=False), before)
    assert first.fingerprint == second.fingerprint


@pytest.mark.slow
def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="unknown model"):
        distill_static(tmp_path, tmp_path / "static")

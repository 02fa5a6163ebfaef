from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from semroute.encoders import fingerprint
from semroute.encoders.export import ExportedEncoder, export_onnx
from semroute.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.slow

TinyModel = Callable[..., Path]

TEXTS = [
    "my invoice charged me twice",
    "integrate x squared",
    "hi",
    "what is the boiling point of ethanol at sea level",
]


def test_the_same_model_gives_the_same_bytes(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    first, again = (export_onnx(folder, tmp_path / name) for name in ("first", "again"))
    assert again.model_path.read_bytes() == first.model_path.read_bytes()
    assert again.tokenizer_path.read_bytes() == first.tokenizer_path.read_bytes()
    assert again.fingerprint == first.fingerprint
    assert again.fingerprint == fingerprint.of_files(again.model_path, again.tokenizer_path)


def test_the_built_in_model_traced_by_torch_gives_the_same_vectors_but_for_int8(
    exported_encoder: ExportedEncoder, sentence_transformer: SentenceTransformer, tmp_path: Path
) -> None:
    traced = export_onnx(sentence_transformer, tmp_path / "traced").load(threads=1)
    cosines = (traced.encode(TEXTS) * exported_encoder.load(threads=1).encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.98


def test_a_loaded_model_is_left_as_it_is(tiny_model: TinyModel, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model(tmp_path)), device="cpu")
    model.encode(TEXTS, show_progress_bar=False)  # settles the tokenizer's truncation and padding
    before = model.tokenizer.backend_tokenizer.to_str(), model[0].auto_model.config._attn_implementation
    vectors = model.encode(TEXTS, show_progress_bar=False)
    export_onnx(model, tmp_path / "onnx")
    assert (model.tokenizer.backend_tokenizer.to_str(), model[0].auto_model.config._attn_implementation) == before
    np.testing.assert_array_equal(model.encode(TEXTS, show_progress_bar=False), vectors)


def test_the_files_are_small_and_hold_no_trace_of_the_machine(exported_encoder: ExportedEncoder) -> None:
    content = exported_encoder.model_path.read_bytes()
    assert len(content) < 40_000_000
    assert b"site-packages" not in content
    assert str(Path.home()).encode() not in content


@pytest.mark.parametrize(
    ("pooling", "dense"), [("cls", False), ("max", False), (("cls", "mean"), False), ("mean", True)]
)
def test_other_poolings_and_dense_layers_are_exported(
    tiny_model: TinyModel, tmp_path: Path, pooling: str | tuple[str, ...], dense: bool
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tiny_model(tmp_path, pooling, dense=dense)
    exported = export_onnx(folder, tmp_path / "onnx")
    expected = SentenceTransformer(str(folder), device="cpu").encode(
        TEXTS, normalize_embeddings=True, show_progress_bar=False
    )
    assert exported.name == "model"
    assert exported.max_tokens == 128
    assert exported.dimensions == expected.shape[1]
    cosines = (exported.load(threads=1).encode(TEXTS) * expected).sum(axis=1)
    assert cosines.min() > 0.998


def test_what_cannot_be_exported_points_to_the_torch_encoder(tiny_model: TinyModel, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer, models

    model = SentenceTransformer(str(tiny_model(tmp_path, "weightedmean")), device="cpu")
    with pytest.raises(EncoderError, match="pools by weightedmean; use the torch encoder"):
        export_onnx(model, tmp_path / "onnx")
    model = SentenceTransformer(modules=[model[0], models.Pooling(64), models.LayerNorm(64)], device="cpu")
    with pytest.raises(EncoderError, match="has a LayerNorm module; use the torch encoder"):
        export_onnx(model, tmp_path / "onnx")
    model = SentenceTransformer(
        modules=[model[0], models.Pooling(64)], prompts={"q": "query: "}, default_prompt_name="q", device="cpu"
    )
    with pytest.raises(EncoderError, match="puts a prompt before every text; use the torch encoder"):
        export_onnx(model, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.torch
def test_an_unknown_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match='unknown model "no-such/model"'):
        export_onnx("no-such/model", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(EncoderError, match="unknown model"):
        export_onnx(empty, tmp_path / "onnx")


def test_exporting_changes_no_logging(tiny_model: TinyModel, tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers), logging.getLogger("torch.onnx").level
    export_onnx(tiny_model(tmp_path), tmp_path / "onnx")
    assert (root.level, list(root.handlers), logging.getLogger("torch.onnx").level) == before


def test_a_failed_check_is_an_error(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import semroute.encoders.export as module

    def ruin(model: object) -> None:
        from onnx import numpy_helper

        for tensor in model.graph.initializer:  # type: ignore[attr-defined]
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.float32 and array.ndim == 2:
                tensor.CopyFrom(numpy_helper.from_array(array[::-1].copy(), tensor.name))

    monkeypatch.setattr(module, "quantize", ruin)
    with pytest.raises(EncoderError, match="exported vectors differ from its own"):
        export_onnx(tiny_model(tmp_path), tmp_path / "onnx")

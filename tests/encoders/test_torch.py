from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from semroute.encoders.torch import TorchEncoder
from semroute.errors import EncoderError
from semroute.types import Encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TinyModel = Callable[..., Path]
TEXTS = ["my invoice charged me twice", "integrate x squared", "hi"]


@pytest.fixture(scope="module")
def encoder(sentence_transformer: SentenceTransformer) -> TorchEncoder:
    return TorchEncoder(sentence_transformer)


def test_vectors_are_those_of_sentence_transformers(
    encoder: TorchEncoder, sentence_transformer: SentenceTransformer
) -> None:
    assert isinstance(encoder, Encoder)
    expected = sentence_transformer.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    assert encoder.dimensions == 384


def test_no_texts_give_no_rows(encoder: TorchEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "\0", "\ud800", "word " * 200_000])
def test_odd_texts_give_unit_vectors(encoder: TorchEncoder, text: str) -> None:
    np.testing.assert_allclose(np.linalg.norm(encoder.encode([text]), axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_tail_of_a_long_text_counts(encoder: TorchEncoder) -> None:
    middle = "the weather was mild and nothing happened " * 200
    plain, with_tail = encoder.encode([middle, middle + "How do I integrate x squared?"])
    assert with_tail @ plain < 0.99


@pytest.mark.slow
def test_the_fingerprint_is_that_of_the_weights(tiny_model: TinyModel, tmp_path: Path) -> None:
    one, same, other = (TorchEncoder(tiny_model(tmp_path / str(n), seed=seed)) for n, seed in enumerate((1, 1, 2)))
    pooled = TorchEncoder(tiny_model(tmp_path / "cls", "cls", seed=1))
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, other.fingerprint, pooled.fingerprint}) == 3


@pytest.mark.slow
def test_vectors_of_a_model_that_does_not_normalise_are_unit(tiny_model: TinyModel, tmp_path: Path) -> None:
    encoder = TorchEncoder(tiny_model(tmp_path, dense=True))
    assert encoder.name == "model"
    assert encoder.dimensions == 32
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(TEXTS), axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_threads_share_an_encoder(encoder: TorchEncoder) -> None:
    expected = encoder.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: encoder.encode(TEXTS), range(8)):
            np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.torch
def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="unknown model"):
        TorchEncoder(tmp_path)

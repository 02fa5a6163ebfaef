from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from semroute.encoders.static import StaticEncoder
from semroute.errors import EncoderError
from semroute.types import Encoder

WORDS = ["[UNK]", "cat", "dog", "tax", "law"]
TABLE = np.array([[9, 9, 9], [1, 0, 0], [0.8, 0.6, 0], [0, 0, 2], [0, 1, 0]], dtype=np.float16)

Make = Callable[..., StaticEncoder]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("static")
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))

    def make(table: np.ndarray = TABLE, **settings: int) -> StaticEncoder:
        np.save(folder / "table.npy", table)
        return StaticEncoder(folder / "table.npy", folder / "tokenizer.json", name="x", fingerprint="x", **settings)

    return make


def test_a_vector_is_the_direction_of_the_mean_of_its_tokens(make: Make) -> None:
    encoder = make()
    assert isinstance(encoder, Encoder)
    assert encoder.dimensions == 3
    vectors = encoder.encode(["cat", "tax", "cat law", "law cat", "cat cat dog"])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(vectors[:4], [[1, 0, 0], [0, 0, 1], [half, half, 0], [half, half, 0]], atol=1e-6)
    np.testing.assert_allclose(vectors[4], np.array([2.8, 0.6, 0]) / np.hypot(2.8, 0.6), atol=1e-3)
    assert vectors.dtype == np.float32


def test_unknown_tokens_do_not_count(make: Make) -> None:
    known, mixed = make().encode(["cat law", "zebra cat quokka law"])
    np.testing.assert_array_equal(known, mixed)


def test_a_text_without_known_tokens_gets_a_unit_vector_and_disturbs_no_other(make: Make) -> None:
    vectors = make().encode(["", "cat", "zebra", " \0", "law", "\ud800"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[[1, 4]], [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_tokens_that_cancel_out_give_a_unit_vector(make: Make) -> None:
    table = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
    np.testing.assert_array_equal(make(table).encode(["cat dog"]), [[1, 0]])


def test_long_texts_keep_head_and_tail(make: Make) -> None:
    encoder = make(max_tokens=4)
    long, short = encoder.encode(["cat cat " + "tax " * 1000 + "law law", "cat law"])
    np.testing.assert_allclose(long, short, atol=1e-6)


@pytest.mark.slow
def test_batched_texts_have_the_same_vectors_as_single_ones(make: Make) -> None:
    encoder = make()
    texts = [" ".join(WORDS[1 + (number + step) % 4] for step in range(number % 5)) for number in range(3000)]
    np.testing.assert_allclose(encoder.encode(texts), np.vstack([encoder.encode([t]) for t in texts]), atol=1e-6)
    assert encoder.encode([]).shape == (0, 3)


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec=None, categories=None)) | st.sampled_from(WORDS), max_size=6))
def test_any_text_gives_a_unit_vector(make: Make, texts: list[str]) -> None:
    vectors = make().encode(texts)
    assert vectors.shape == (len(texts), 3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_table_that_does_not_fit_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"has 4 rows, but .* has 5 tokens"):
        make(TABLE[:4])
    with pytest.raises(EncoderError, match="not a table of token vectors"):
        make(TABLE.astype(np.int32))


def test_a_pickle_is_not_loaded(make: Make) -> None:
    table = np.empty((5, 3), dtype=object)
    with pytest.raises(EncoderError, match=r"table\.npy: not a usable table"):
        make(table)


def test_a_truncated_table_is_named(make: Make) -> None:
    path = make().table_path
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(EncoderError, match=r"table\.npy: not a usable table"):
        StaticEncoder(path, path.with_name("tokenizer.json"), name="x", fingerprint="x")

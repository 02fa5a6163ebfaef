from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.encoders.cache import CACHE_OWNER, LONG, CachedEncoder
from semroute.encoders.export import ExportedEncoder
from semroute.errors import EncoderError
from semroute.types import Encoder, Matrix


class Counting:
    """Vectors from the text's hash, and a record of what was asked."""

    name = "counting"
    fingerprint = "counting-1"
    dimensions = 8

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False

    def encode(self, texts: Sequence[str]) -> Matrix:
        if self.broken:
            raise EncoderError("broken")
        self.asked.extend(texts)
        rows = np.empty((len(texts), 8), dtype=np.float32)
        for row, text in enumerate(texts):
            rows[row] = [hash((text, place)) % 1000 + 1 for place in range(8)]
        unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def test_it_is_an_encoder_with_the_facts_of_the_one_inside() -> None:
    cached = CachedEncoder(Counting())
    assert isinstance(cached, Encoder)
    assert (cached.name, cached.fingerprint, cached.dimensions) == ("counting", "counting-1", 8)


def test_a_known_text_is_not_encoded_again_and_a_repeated_one_once() -> None:
    inside = Counting()
    cached = CachedEncoder(inside)
    first = cached.encode(["a", "b", "a"])
    second = cached.encode(["b", "c", "a"])
    assert inside.asked == ["a", "b", "c"]
    np.testing.assert_array_equal(first[[1, 0]], second[[0, 2]])


def test_no_owner_finds_what_another_has_cached() -> None:
    inside = Counting()
    cached = CachedEncoder(inside)
    for owner in ("", "one", "two", "one", ""):
        token = CACHE_OWNER.set(owner)
        cached.encode(["a"])
        CACHE_OWNER.reset(token)
    assert inside.asked == ["a", "a", "a"]


def test_the_least_recently_used_text_goes_first() -> None:
    inside = Counting()
    cached = CachedEncoder(inside, size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cached.encode([text])
    assert inside.asked == ["a", "b", "c", "b"]


def test_changing_what_was_given_does_not_change_what_is_remembered() -> None:
    cached = CachedEncoder(Counting())
    given_out = cached.encode(["a"])
    kept = given_out.copy()
    given_out[:] = 0
    again = cached.encode(["a"])
    np.testing.assert_array_equal(again, kept)
    again[:] = 0
    np.testing.assert_array_equal(cached.encode(["a"]), kept)


def test_long_texts_are_cached_by_hash_and_not_stored() -> None:
    inside = Counting()
    cached = CachedEncoder(inside)
    texts = ["x" * 100_000 + end for end in ("1", "2", "\ud800")]
    vectors = cached.encode(texts)
    np.testing.assert_array_equal(cached.encode(texts), vectors)
    assert len(inside.asked) == 3
    assert not np.array_equal(vectors[0], vectors[1])
    assert all(len(key) <= LONG for key in cached._recent)


def test_a_failure_leaves_nothing_behind() -> None:
    inside = Counting()
    cached = CachedEncoder(inside)
    inside.broken = True
    with pytest.raises(EncoderError):
        cached.encode(["a"])
    inside.broken = False
    assert cached.encode(["a"]).shape == (1, 8)


def test_no_texts_and_wrong_arguments() -> None:
    cached = CachedEncoder(Counting())
    assert cached.encode([]).shape == (0, 8)
    with pytest.raises(TypeError, match="not one string"):
        cached.encode("hello")
    with pytest.raises(ValueError, match="at least 1"):
        CachedEncoder(Counting(), size=0)


@pytest.mark.slow
@given(st.lists(st.lists(st.text(max_size=2), max_size=6), max_size=8), st.integers(1, 5))
def test_answers_are_those_of_the_encoder_whatever_came_before(batches: list[list[str]], size: int) -> None:
    cached = CachedEncoder(Counting(), size=size)
    for batch in batches:
        np.testing.assert_array_equal(cached.encode(batch), Counting().encode(batch))
    assert len(cached._recent) <= size


def test_threads_share_a_cache() -> None:
    cached = CachedEncoder(Counting(), size=16)
    texts = [str(number) for number in range(32)]
    expected = Counting().encode(texts)

    def work(turn: int) -> bool:
        rows = [(turn + step) % 32 for step in range(5)]
        return bool(np.array_equal(cached.encode([texts[row] for row in rows]), expected[rows]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(500)))
    assert len(cached._recent) == 16


def test_the_onnx_encoder_behind_it_gives_the_same_vectors(exported_encoder: ExportedEncoder) -> None:
    encoder = exported_encoder.load()
    cached = CachedEncoder(encoder)
    texts = ["hello", "my invoice charged me twice"]
    np.testing.assert_array_equal(cached.encode(texts), encoder.encode(texts))
    np.testing.assert_array_equal(cached.encode(texts[::-1]), encoder.encode(texts)[::-1])

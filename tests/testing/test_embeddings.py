from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.testing import FakeProvider
from semroute.testing.answers import embed


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=False, timeout=10) as open_client:
        yield open_client


def test_embeddings_are_in_the_order_of_the_texts_and_base64_holds_the_same(
    provider: FakeProvider, client: httpx.Client
) -> None:
    url = f"{provider.base_url}/embeddings"
    plain = client.post(url, json={"model": "e", "input": ["red car", "blue sky"]}).json()
    packed = client.post(url, json={"model": "e", "input": "blue sky", "encoding_format": "base64"}).json()
    assert [item["index"] for item in plain["data"]] == [0, 1]
    assert plain["data"][1]["embedding"] == embed("blue sky", 64)
    assert plain["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    unpacked = struct.unpack("<64f", base64.b64decode(packed["data"][0]["embedding"]))
    assert unpacked == pytest.approx(embed("blue sky", 64), abs=1e-6)


def test_the_length_of_embeddings_is_chosen_by_server_or_request(client: httpx.Client) -> None:
    with FakeProvider(dimensions=8) as provider:
        url = f"{provider.base_url}/embeddings"
        default = client.post(url, json={"model": "e", "input": "x"}).json()
        asked = client.post(url, json={"model": "e", "input": "x", "dimensions": 3}).json()
    assert [len(body["data"][0]["embedding"]) for body in (default, asked)] == [8, 3]


@pytest.mark.slow
@given(st.text(max_size=30), st.integers(1, 40))
def test_every_embedding_has_unit_length_and_is_the_same_again(text: str, dimensions: int) -> None:
    vector = embed(text, dimensions)
    assert len(vector) == dimensions
    assert sum(value * value for value in vector) == pytest.approx(1)
    assert vector == embed(text, dimensions)


def test_texts_that_share_words_lie_nearer() -> None:
    def similarity(a: str, b: str) -> float:
        return sum(x * y for x, y in zip(embed(a, 256), embed(b, 256), strict=True))

    assert similarity("cancel my order", "cancel my flight") > similarity("cancel my order", "prove this theorem")

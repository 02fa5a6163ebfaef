from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.providers.messages import InlineImage, LinkedImage, image


@settings(deadline=None)
@given(st.binary(), st.booleans())
def test_the_bytes_of_a_data_url_arrive_whatever_its_alphabet_and_padding(content: bytes, is_for_urls: bool) -> None:
    data = base64.urlsafe_b64encode(content).rstrip(b"=") if is_for_urls else base64.b64encode(content)
    found = image(f"data:image/png;base64,{data.decode()}")
    assert isinstance(found, InlineImage)
    assert found.media_type == "image/png"
    assert base64.b64decode(found.data, validate=True) == content


def test_a_data_url_without_base64_is_percent_decoded() -> None:
    found = image("data:image/svg+xml;charset=utf-8,%3Csvg/%3E")
    assert found == InlineImage("image/svg+xml", base64.b64encode(b"<svg/>").decode())


def test_base64_may_be_percent_encoded_broken_into_lines_and_written_in_capitals() -> None:
    assert image("DATA:IMAGE/PNG;BASE64,aGVs\n bG8%3D") == InlineImage("image/png", "aGVsbG8=")


@pytest.mark.parametrize("url", ["https://example.org/a.png", "http://example.org/a", "gs://bucket/a.png"])
def test_an_address_stays_an_address(url: str) -> None:
    assert image(url) == LinkedImage(url)


@pytest.mark.parametrize(
    "url", ["", "a.png", "data:image/png;base64", "data:,words", "data:image/png;base64,???", "mailto:me", "c:\\a.png"]
)
def test_what_is_neither_is_nothing(url: str) -> None:
    assert image(url) is None

"""Images of a request: an address to be fetched by the provider, or the bytes themselves in a ``data:`` URL."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image within the request; ``data`` is standard base64, ``media_type`` such as ``image/png``."""

    media_type: str
    data: str
    cache_control: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """An image that the provider fetches; ``url`` is an http(s) address or another that the provider knows (gs://)."""

    url: str
    cache_control: Mapping[str, object] | None = None


def image(url: str) -> InlineImage | LinkedImage | None:
    """What an ``image_url`` stands for; None where it is neither an address nor a ``data:`` URL with a media type.

    Source: RFC 2397; base64 without padding, or in the alphabet for URLs, is understood too.
    """
    scheme, separator, rest = url.partition(":")
    if not separator:
        return None
    if scheme.lower() != "data":
        return LinkedImage(url) if rest.startswith("//") else None
    head, comma, body = rest.partition(",")
    media_type, *parameters = [part.strip().lower() for part in head.split(";")]
    if not comma or "/" not in media_type:
        return None
    content = unquote_to_bytes(body)
    if "base64" in parameters:
        try:
            content = _decoded(content)
        except binascii.Error:
            return None
    return InlineImage(media_type, base64.b64encode(content).decode())


def _decoded(content: bytes) -> bytes:
    packed = b"".join(content.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)

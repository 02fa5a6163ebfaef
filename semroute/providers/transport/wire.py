"""JSON as it goes over the wire, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping

from semroute.errors import RequestError
from semroute.providers.target import Target


def encode(body: Mapping[str, object], target: Target) -> bytes:
    """``body`` as UTF-8 JSON; a lone surrogate, which UTF-8 cannot write, becomes U+FFFD."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{target.deployment.name}: the request cannot be written as JSON: {error}"
        raise RequestError(message, deployment=target.deployment.name) from None
    return _without_lone_surrogates(text).encode()


def read_json(text: str | bytes) -> object:
    """What JSON says; a lone surrogate in it, which no text may hold, becomes U+FFFD.

    Raises:
        ValueError: it is not JSON, or not UTF-8.
    """
    try:
        value: object = json.loads(text)
        # Only an escape can smuggle one in; for most texts the look for it is all that this costs.
        again = json.dumps(value, ensure_ascii=False) if _has_escape(text) else ""
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    return value if again.isascii() else json.loads(_without_lone_surrogates(again))


def _has_escape(text: str | bytes) -> bool:
    return b"\\u" in text if isinstance(text, bytes) else "\\u" in text


def _without_lone_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _plain(value: object) -> object:
    """Mappings that are not dicts are written like dicts."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")

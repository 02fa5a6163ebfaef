"""Steering a server from another process: ``POST /_control`` switches, ``GET /_stats`` counts.

The body of ``/_control`` is a JSON object with any of these keys; the answer is that of ``/_stats``::

    {"reset": true,                                             forget requests, script and standing reply first
     "script": "429,hang:2,ok",                                 replies of the coming requests, by name
     "always": "500",                                           reply of all others; null: honest ones
     "speed": {"latency_s": 0, "first_token_s": 0.2, "token_s": 0.01},
     "limit": {"rpm": 600, "tpm": 60000, "window_s": 60}}       null: no limit

No key is asked for: the server is for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from semroute.testing import words
from semroute.testing.checks import within
from semroute.testing.delivery import Response
from semroute.testing.http11 import HttpRequest
from semroute.testing.neutral import encode
from semroute.testing.replies import JSON

if TYPE_CHECKING:
    from semroute.testing.server import FakeProvider

PATHS = ("/_control", "/_stats")
_SPEED = ("latency_s", "first_token_s", "token_s")
_LIMIT = ("rpm", "tpm", "window_s")


def answer(provider: FakeProvider, request: HttpRequest, body: Any) -> Response:
    """The response to a request for one of :data:`PATHS`."""
    if (request.method, request.path) == ("GET", "/_stats"):
        return Response(200, JSON, encode(provider.stats()))
    if (request.method, request.path) != ("POST", "/_control"):
        return Response(405, JSON, encode({"error": "POST /_control, or GET /_stats"}))
    try:
        for switch in _switches(provider, body):
            switch()
    except ValueError as error:
        return Response(400, JSON, encode({"error": str(error)}))
    return Response(200, JSON, encode(provider.stats()))


def _switches(provider: FakeProvider, body: Any) -> list[Callable[[], None]]:
    """What to do, all of it checked before any of it is done."""
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    for name in body:
        if name not in ("reset", "script", "always", "speed", "limit"):
            raise ValueError(f'unknown key "{name}"; there are reset, script, always, speed and limit')
    switches: list[Callable[[], None]] = [provider.reset] if body.get("reset") else []
    if "script" in body:
        replies = words.script(str(body["script"]))
        switches.append(lambda: provider.script(*replies))
    if "always" in body:
        standing = None if body["always"] is None else words.reply(str(body["always"]))
        switches.append(lambda: provider.always(standing))
    if "speed" in body:
        speed = _numbers("speed", body["speed"], _SPEED)
        switches.append(lambda: provider.set_speed(**speed))
    if "limit" in body:
        limit = _numbers("limit", body["limit"] or {}, _LIMIT)
        switches.append(lambda: provider.set_limit(**limit))
    return switches


def _numbers(where: str, given: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be an object")
    for name, value in given.items():
        if name not in names or not within(value, 0, 1e9):
            raise ValueError(f"{where}.{name} must be one of {', '.join(names)}, with a number from 0")
    return given

"""Which wire format and which operation a path belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from semroute.testing import anthropic_wire, gemini_wire, openai_wire
from semroute.testing.http11 import HttpRequest
from semroute.testing.neutral import Answer, ChatRequest, Failure, StreamEvent

Operation: TypeAlias = Literal["chat", "embeddings", "models", "unknown"]


class Wire(Protocol):
    """What a wire format's module offers."""

    MALFORMED_EVENT: bytes
    KEEPALIVE: bytes

    def refused(self, request: HttpRequest, key: str) -> Failure | None:
        """The failure where the request does not carry the key."""

    def read(self, request: HttpRequest, body: Any, serial: int) -> ChatRequest:
        """What is asked for; raises RefusedError."""

    def whole(self, ask: ChatRequest, answer: Answer) -> dict[str, object]:
        """The answer as one object."""

    def events(self, ask: ChatRequest, answer: Answer) -> Iterator[StreamEvent]:
        """The answer as a stream."""

    def error(self, failure: Failure) -> tuple[int, dict[str, str], dict[str, object]]:
        """Status, headers and body of an error."""

    def error_event(self, failure: Failure) -> bytes:
        """An error in the middle of a stream."""


@dataclass(frozen=True, slots=True)
class Route:
    """A wire format's module, and what is asked of it."""

    wire: Wire
    operation: Operation


_OPENAI = r"(/openai)?/v1|/openai/deployments/[^/]+"
_ROUTES: Sequence[tuple[str, re.Pattern[str], Route]] = (
    ("POST", re.compile(rf"({_OPENAI})/chat/completions"), Route(openai_wire, "chat")),
    ("POST", re.compile(rf"({_OPENAI})/embeddings"), Route(openai_wire, "embeddings")),
    ("POST", re.compile(r"/v1/messages"), Route(anthropic_wire, "chat")),
    (
        "POST",
        re.compile(r"/(v1|v1beta|v1beta1)/(projects/.+/publishers/google/)?models/[^/:]+:(streamG|g)enerateContent"),
        Route(gemini_wire, "chat"),
    ),
    ("GET", re.compile(r"/v1beta/models"), Route(gemini_wire, "models")),
)


def find(request: HttpRequest) -> Route:
    """The route of a request; an unknown path belongs to the format whose clients would ask for it."""
    path = request.path
    for method, pattern, route in _ROUTES:
        if request.method == method and pattern.fullmatch(path):
            return route
    wire: Wire = openai_wire
    if "anthropic-version" in request.headers:
        wire = anthropic_wire
    elif "x-goog-api-key" in request.headers or path.startswith("/v1beta") or "/models/" in path:
        wire = gemini_wire
    return Route(wire, "models" if (request.method, path) == ("GET", "/v1/models") else "unknown")

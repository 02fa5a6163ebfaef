"""Housekeeping of coding agents, recognised by its first words.

It is titles, summaries, probes and compactions.

The patterns are data (``housekeeping.json``), each with its source. They are narrow on purpose: housekeeping that
is not recognised costs some cents, and a question that is taken for housekeeping may cost a good answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from semroute.server.sessions import role_of, texts_of
from semroute.types import Request

_HEAD = 300
"""Characters of a text that are looked at."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Pattern of a request that an agent makes for itself.

    Attributes:
        task: what the request is for, for people.
        place: where its words stand: a system prompt, or the last message if it is a user's.
        source: where the words are from.
        starts: begin of a text there.
        equals: the whole text there, apart from white space around it.
        max_tokens: longest answer that it asks for; None where it does not matter.
        tools: False where it has no tools; None where it does not matter.
        messages: most messages besides the system prompt; None where it does not matter.
    """

    task: str
    place: Literal["system", "last_user"]
    source: str
    starts: str | None = None
    equals: str | None = None
    max_tokens: int | None = None
    tools: bool | None = None
    messages: int | None = None

    def matches(self, request: Request) -> bool:
        """Return True if the request is of this kind."""
        if self.max_tokens is not None and request.max_tokens != self.max_tokens:
            return False
        if self.tools is False and request.tools:
            return False
        if self.messages is not None and sum(not _is_system(one) for one in request.messages) > self.messages:
            return False
        return any(self._begins(text) for text in _texts(request, self.place))

    def _begins(self, text: str) -> bool:
        head = text[:_HEAD].strip()  # a prompt may be megabytes long
        if self.equals is not None:
            return head == self.equals and len(text) < _HEAD
        return self.starts is not None and head.startswith(self.starts)


@cache
def patterns() -> tuple[Pattern, ...]:
    """Return the shipped patterns."""
    text = files("semroute.server").joinpath("housekeeping.json").read_text(encoding="utf-8")
    return tuple(Pattern(**entry) for entry in json.loads(text)["patterns"])


def housekeeping_of(request: Request) -> str | None:
    """Return the housekeeping task of a request; None for a normal one."""
    return next((pattern.task for pattern in patterns() if pattern.matches(request)), None)


def _is_system(message: object) -> bool:
    return role_of(message) in ("system", "developer")


def _texts(request: Request, place: str) -> Iterator[str]:
    """Yield the texts at a place of a request."""
    if place == "system":
        for message in request.messages:
            if _is_system(message):
                yield from texts_of(message)
    elif request.messages and role_of(request.messages[-1]) == "user":
        yield from texts_of(request.messages[-1])

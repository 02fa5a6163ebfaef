"""What the three wire formats have in common: what was asked, what is answered, why it failed.

A wire format turns its request into an :class:`Ask` and renders an :class:`Answer` or a :class:`Failure` as its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]

Reason: TypeAlias = Literal["plain", "key", "context_length", "content_filter", "quota"]
"""Why a request failed, where the status alone does not say it."""

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_PIECES = re.compile(r"\s*\S+|\s+\Z")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool that the model asks for."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The arguments as JSON text."""
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that the server takes.

    Attributes:
        model: name of the model.
        text: the last user text, which the honest answer repeats.
        input_tokens: words of the conversation.
        stream: whether events are wanted.
        counted: whether the stream's usage is wanted (OpenAI asks for it, the others always send it).
        max_tokens: longest answer, words.
        stop: texts at which the answer ends.
        call: name and parameters' JSON schema of the tool that has to be called.
        schema: JSON schema that the answer has to follow.
        top_logprobs: alternatives wanted with each token's log probability; None where none are asked for.
        answers: alternatives that are wanted, 1 or more.
        serial: number of the request, for the ids in the answer.
        as_list: whether a stream is one JSON array in place of server-sent events (Gemini without ``alt=sse``).
    """

    model: str
    text: str = ""
    input_tokens: int = 0
    stream: bool = False
    counted: bool = True
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    call: tuple[str, Mapping[str, object]] | None = None
    schema: Mapping[str, object] | None = None
    top_logprobs: int | None = None
    answers: int = 1
    serial: int = 0
    as_list: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer. ``input_tokens`` includes the cached ones, ``output_tokens`` the reasoning.

    Attributes:
        text: the words; with ``refused``, those of the refusal.
        calls: tools that the model asks to be called.
        finish: why it ended.
        refused: whether the model refuses.
        matched: the stop text that ended it.
        model: name that it answers under; None repeats the request's.
        counted: whether usage is sent.
        logprob: log probability of every token; None makes one up from the token.
        hollow: whether the place of the answer (choices, content, candidates) is empty.
        reasoning: what the model thinks before it answers, as the vendor shows it: ``reasoning_content``, a thinking
            block, a part that is a thought.
        loose: whether tool calls are streamed as some servers of OpenAI's format do it: without ids, each with the
            number 0, the name in two pieces.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"
    refused: bool = False
    matched: str | None = None
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    counted: bool = True
    hollow: bool = False
    reasoning: str = ""
    loose: bool = False
    logprob: float | None = None

    def logprob_of(self, token: str) -> float:
        """The log probability of one of its tokens."""
        return logprob(token) if self.logprob is None else self.logprob


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, rendered in the way of the request's wire format.

    Attributes:
        status: HTTP status; some vendors have one of their own for a ``reason``.
        message: words for a person.
        reason: what the status alone does not say.
        retry_after: the ``Retry-After`` header, seconds or an HTTP date.
        reset_s: seconds until the limit allows more, told in the vendor's own way (OpenAI's ``x-ratelimit-*``,
            Anthropic's reset times, Gemini's ``RetryInfo``).
        code: OpenAI's machine-readable code; None for what the reason says.
        param: what is wrong in the request, where the vendor names it.
    """

    status: int
    message: str
    reason: Reason = "plain"
    retry_after: float | str | None = None
    reset_s: float | None = None
    code: int | str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream, as it goes over the wire.

    ``kind``: ``piece`` carries a piece of the answer, ``finish`` says why it ended, ``end`` is the marker after which
    nothing comes, and ``frame`` is everything else.
    """

    data: bytes
    kind: Literal["frame", "piece", "finish", "end"]


def pieces(text: str) -> list[str]:
    """A text in words, each with the white space before it; together they are the text."""
    return _PIECES.findall(text)


def numbered(text: str, index: int) -> str:
    """The text of the ``index``-th of several answers: the first is the text itself."""
    return text if index == 0 else f"{text} ({index + 1})"


def words(text: str) -> int:
    """Tokens of a text, as this server counts them."""
    return len(text.split())


def logprob(token: str) -> float:
    """A log probability for a token, the same on every machine; from -1 to 0."""
    return -hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()[0] / 256


def alternatives(token: str, value: float, count: int) -> list[tuple[str, float]]:
    """The token itself, of the log probability ``value``, and made-up ones that are less likely, with theirs."""
    return [(token if rank == 0 else f"{token}~{rank}", value - 2.0 * rank) for rank in range(count)]


def encode(value: object) -> bytes:
    """JSON as vendors send it: UTF-8, not escaped, except where a text has no UTF-8 (a lone surrogate)."""
    try:
        return _JSON.encode(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()

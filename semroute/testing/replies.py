"""Scripted replies: what to answer, and how it travels. Each renders itself in the wire format of its request.

How an answer breaks on its way is in :mod:`semroute.testing.replies`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

# What the three wire formats have in common: what was asked, what is answered, why it failed.
#
# A wire format turns its request into an :class:`Ask` and renders an :class:`Answer` or a :class:`Failure` as its own.

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


JSON = {"content-type": "application/json"}

Then: TypeAlias = Literal["stall", "reset", "close", "error", "malformed", "unmarked"]
"""What happens to an answer on its way: no more bytes, a connection reset, an early but orderly end, an error event,
an event that is no JSON, or only the end marker missing."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer travels; all of it in one go unless told.

    Attributes:
        then: what goes wrong; None: nothing.
        after: pieces of text after which it goes wrong; None: after the last.
        at_end: whether it goes wrong only after the reason why the answer ended, whatever ``after`` says.
        keepalive_s: interval at which a stalled stream still sends the vendor's sign of life (a comment, a ping),
            seconds; 0: none.
        sizes: lengths, bytes, of the parts that it is sent in, over and over; empty: each event is a part.
        interval_s: wait between the parts, seconds.
    """

    then: Then | None = None
    after: int | None = None
    at_end: bool = False
    keepalive_s: float = 0.0
    sizes: tuple[int, ...] = ()
    interval_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted reply; a plain one is the honest answer.

    A request that the vendor would refuse (a wrong key, a wrong body) is refused, unless the reply has a ``body`` or a
    ``failure``: those come whatever was asked.

    Attributes:
        status: HTTP status of a ``body``.
        body: sent as it is, whatever the wire format.
        headers: sent with it.
        delay_s: wait before answering, seconds; cut short when the server stops.
        answer: what the model answers; None with neither ``body`` nor ``failure`` is the honest answer.
        failure: an error in place of an answer.
        delivery: how it travels.
        counted: whether usage is sent.
        number: the model answers with this number alone, in the form that is asked for; see :func:`number`.
    """

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: dict(JSON))
    delay_s: float = 0.0
    answer: Answer | None = None
    failure: Failure | None = None
    delivery: Delivery = Delivery()
    counted: bool = True
    number: int | None = None


def answer(
    text: str = "",
    *,
    calls: Sequence[Call] = (),
    input_tokens: int = 1,
    output_tokens: int = 1,
    cached_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
    model: str = "scripted",
    finish: Finish | None = None,
    usage: bool = True,
    logprob: float | None = None,
    reasoning: str = "",
    loose: bool = False,
) -> Reply:
    """An answer with this text, or these calls of tools; ``usage=False`` leaves the counts out.

    ``logprob`` is the log probability of every token, where they are asked for: how sure the model is. ``reasoning``
    is what it thinks before; ``loose`` streams calls without ids or numbers, as some servers of OpenAI's format do.
    """
    told = Answer(
        text,
        tuple(calls),
        finish=finish or ("tool_calls" if calls else "stop"),
        model=model,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        cache_write_tokens=cache_write_tokens,
        reasoning_tokens=reasoning_tokens,
        logprob=logprob,
        reasoning=reasoning,
        loose=loose,
    )
    return Reply(answer=told, counted=usage)


def number(value: int = 1) -> Reply:
    """Answer with a number alone, as a judge does: as text, or in the JSON that the request's schema asks for.

    A judge that chooses a model (``judge`` in ``semroute.yaml``) answers with the number of a candidate, from 1; one
    that grades answers (``semroute label --judge``) with a grade from 0 to 10. In JSON every number that the schema
    leaves free is this one, and every text whose choices name it; a schema without a place for it gets what it allows.
    """
    return Reply(number=value)


def refusal(text: str = "I cannot help with that.") -> Reply:
    """The model refuses, in these words: OpenAI's ``refusal``, Anthropic's stop reason, Gemini's finish reason."""
    told = Answer(text, finish="stop", refused=True, model="scripted", input_tokens=1, output_tokens=1)
    return Reply(answer=told)


def fail(
    status: int,
    message: str = "scripted failure",
    *,
    retry_after: float | str | None = None,
    reset_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error in the vendor's shape.

    Args:
        status: HTTP status.
        message: words of the error.
        retry_after: the ``Retry-After`` header, seconds or an HTTP date.
        reset_s: seconds until more is allowed, told as the vendor tells it: OpenAI's ``x-ratelimit-reset-*``,
            Anthropic's ``anthropic-ratelimit-*-reset``, Gemini's ``RetryInfo``.
        headers: further headers.
    """
    failure = Failure(status, message, retry_after=retry_after, reset_s=reset_s)
    return Reply(status, headers={**JSON, **(headers or {})}, failure=failure)


def quota_exhausted() -> Reply:
    """The quota is used up and no waiting helps: a 429, at Anthropic a 400 that says so."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return Reply(failure=Failure(429, message, "quota"))


def context_length() -> Reply:
    """The 400 of a request that is longer than the model takes."""
    message = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
    return Reply(failure=Failure(400, message, "context_length", param="messages"))


def content_filter() -> Reply:
    """The provider's filter stops the request: a 400, at Gemini a 200 without candidates."""
    message = "The prompt triggered the content management policy. Please modify your prompt and try again."
    return Reply(failure=Failure(400, message, "content_filter", param="prompt"))


def error_in_200(message: str = "scripted failure", *, code: int | str | None = None) -> Reply:
    """A 200 that holds an error object in place of an answer; where a stream was asked for, as its only event."""
    return Reply(failure=Failure(200, message, code=code))


def empty_choices() -> Reply:
    """A 200 with no choices (OpenAI), no content (Anthropic), no candidates (Gemini)."""
    return Reply(answer=Answer(hollow=True, model="scripted", input_tokens=1))


def no_usage(reply: Reply | None = None) -> Reply:
    """A reply (the honest one, unless given) without counts."""
    return replace(reply or Reply(), counted=False)


def malformed(text: str = '{"choices": [{"mess') -> Reply:
    """A 200 that is not JSON, and no stream where one was asked for."""
    return Reply(body=text.encode())


def hang(seconds: float = 3600.0, reply: Reply | None = None) -> Reply:
    """Nothing, not even headers, for so long; then a reply (the honest one, unless given)."""
    return replace(reply or Reply(), delay_s=seconds)


# How an answer breaks on its way. Each takes the reply to break: the honest one, unless given.
#
# ``after`` counts pieces of text (words). An answer that is not streamed has no pieces: half its bytes are sent.


def stall_after(pieces: int, reply: Reply | None = None, *, keepalive_s: float = 0.0) -> Reply:
    """So many pieces, and then nothing more on an open connection, or only signs of life at an interval, seconds."""
    broken = _broken(reply, "stall", pieces)
    return replace(broken, delivery=replace(broken.delivery, keepalive_s=keepalive_s))


def reset_after(pieces: int, reply: Reply | None = None) -> Reply:
    """So many pieces, and then a connection reset (RST)."""
    return _broken(reply, "reset", pieces)


def stall_at_end(reply: Reply | None = None) -> Reply:
    """The whole answer and the reason why it ended, and then nothing more on an open connection."""
    return _at_end(_broken(reply, "stall", None))


def reset_at_end(reply: Reply | None = None) -> Reply:
    """The whole answer and the reason why it ended, and then a connection reset (RST)."""
    return _at_end(_broken(reply, "reset", None))


def truncated(after: int | None = None, reply: Reply | None = None) -> Reply:
    """An orderly end of the stream without a finish reason or an end marker, after so many pieces or all.

    An answer that is not streamed ends before its content-length.
    """
    return _broken(reply, "close", after)


def no_end_marker(reply: Reply | None = None) -> Reply:
    """A whole stream, with finish reason and usage, but without ``[DONE]`` or ``message_stop``."""
    return _broken(reply, "unmarked", None)


def error_event(after: int = 0, reply: Reply | None = None) -> Reply:
    """An error in the middle of a 200: as an event after so many pieces; in place of an answer if not streamed."""
    return _broken(reply, "error", after)


def malformed_event(after: int = 0, reply: Reply | None = None) -> Reply:
    """An event that is no JSON after so many pieces; the rest follows. Not streamed: a body that is no JSON."""
    return _broken(reply, "malformed", after)


def split_sse(sizes: Sequence[int] = (1, 2, 3, 5, 7), reply: Reply | None = None) -> Reply:
    """The answer's bytes in parts of these sizes, over and over: in the middle of lines, and of characters."""
    if not sizes or min(sizes) < 1:
        raise ValueError("sizes must be whole numbers above 0")
    reply = reply or Reply()
    return replace(reply, delivery=replace(reply.delivery, sizes=tuple(sizes)))


def drip(interval_s: float = 0.05, reply: Reply | None = None) -> Reply:
    """One event in every interval, seconds; an answer that is not streamed comes in eight parts."""
    reply = reply or Reply()
    return replace(reply, delivery=replace(reply.delivery, interval_s=interval_s))


def _broken(reply: Reply | None, then: Then, after: int | None) -> Reply:
    reply = reply or Reply()
    delivery: Delivery = replace(reply.delivery, then=then, after=after)
    return replace(reply, delivery=delivery)


def _at_end(reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, at_end=True))


# Replies by name, for the prompt and the control endpoint: ``429``, ``hang:2``, ``stall:3``, ``split:1-2-7``.

_Maker = Callable[..., Reply]


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split("-")]


# Name: the reply, and what turns the text after a colon into its argument.
NAMED: Mapping[str, tuple[_Maker, Callable[[str], object] | None]] = {
    "ok": (Reply, None),
    "answer": (answer, str),
    "number": (number, int),
    "refusal": (refusal, None),
    "quota": (quota_exhausted, None),
    "context-length": (context_length, None),
    "content-filter": (content_filter, None),
    "error": (error_in_200, None),
    "empty": (empty_choices, None),
    "no-usage": (no_usage, None),
    "malformed": (malformed, None),
    "hang": (hang, float),
    "stall": (stall_after, int),
    "stall-at-end": (stall_at_end, None),
    "reset-at-end": (reset_at_end, None),
    "reset": (reset_after, int),
    "truncated": (truncated, int),
    "no-end-marker": (no_end_marker, None),
    "error-event": (error_event, int),
    "malformed-event": (malformed_event, int),
    "split": (split_sse, _sizes),
    "drip": (drip, float),
}
_WITHOUT_ARGUMENT: Mapping[str, Reply] = {"stall": stall_after(1), "reset": reset_after(1)}


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name, NAMED, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def script(text: str) -> tuple[Reply, ...]:
    """The replies of a list such as ``429,hang:2,ok``.

    Raises:
        ValueError: a word is no reply.
    """
    return tuple(reply(word.strip()) for word in text.split(","))


def reply(word: str) -> Reply:
    """The reply of one word: a name of :data:`NAMED`, or an error status; ``429:2`` has a ``Retry-After`` of 2 s.

    Raises:
        ValueError: it is neither.
    """
    name, colon, argument = word.partition(":")
    if name.isascii() and name.isdigit() and 400 <= int(name) <= 599:
        return _failure(int(name), argument)
    if name not in NAMED:
        raise ValueError(f'"{word}" is neither an error status nor one of {", ".join(NAMED)}{_meant(name)}')
    make, parse = NAMED[name]
    if not colon:
        return _WITHOUT_ARGUMENT.get(name) or make()
    if parse is None:
        raise ValueError(f'"{name}" takes nothing after the colon')
    try:
        return make(parse(argument))
    except ValueError as error:
        raise ValueError(f'"{word}": {error}') from None


def _failure(status: int, argument: str) -> Reply:
    """``429`` hints at 1 s, ``429:none`` at nothing, ``429:reset=2`` in the vendor's own way."""
    if argument == "none":
        return fail(status)
    if argument.startswith("reset="):
        return fail(status, reset_s=float(argument.removeprefix("reset=")))
    if argument:
        return fail(status, retry_after=float(argument))
    return fail(status, retry_after=1 if status == 429 else None)

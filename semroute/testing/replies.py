"""Scripted replies of the fake provider, their faults and names.

Each reply renders itself in the wire format of its request.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

# Types shared by the wire formats: request, answer, failure.
#
# A wire format turns its request into a :class:`ChatRequest` and renders an :class:`Answer` or a :class:`Failure`.

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]

Reason: TypeAlias = Literal["plain", "key", "context_length", "content_filter", "quota"]
"""Reason of a failure that the status alone does not identify."""

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_PIECES = re.compile(r"\s*\S+|\s+\Z")


@dataclass(frozen=True, slots=True)
class Call:
    """Tool call that the model asks for."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Arguments as JSON text."""
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Request that the server accepts.

    Attributes:
        model: name of the model.
        text: the last user text, which the default answer repeats.
        input_tokens: words of the conversation.
        stream: true to stream events.
        counted: true to send the stream's usage (OpenAI asks for it, the others always send it).
        max_tokens: longest answer, words.
        stop: texts at which the answer ends.
        call: name and parameters' JSON schema of the tool that has to be called.
        schema: JSON schema that the answer has to follow.
        top_logprobs: alternatives wanted with each token's log probability; None where none are asked for.
        answers: alternatives that are wanted, 1 or more.
        serial: number of the request, for the ids in the answer.
        as_list: true if a stream is one JSON array instead of server-sent events (Gemini without ``alt=sse``).
        seals: true if reasoning is to come with its encrypted content (Responses).
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
    seals: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a model.

    ``input_tokens`` includes the cached ones, ``output_tokens`` the reasoning.

    Attributes:
        text: the words; with ``refused``, those of the refusal.
        calls: tools that the model asks to be called.
        finish: the finish reason.
        refused: true if the model refuses.
        matched: the stop text that ended it.
        model: name that it answers under; None repeats the request's.
        counted: true to send usage.
        logprob: log probability of every token; None makes one up from the token.
        hollow: true if the container of the answer (choices, content, candidates) is empty.
        reasoning: reasoning text before the answer, in the form of the vendor: ``reasoning_content``, a thinking
            block, a part that is a thought.
        loose: true to stream tool calls as some servers of OpenAI's format do: without ids, each with the
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
        """Return the log probability of one of its tokens."""
        return logprob(token) if self.logprob is None else self.logprob


@dataclass(frozen=True, slots=True)
class Failure:
    """Error, rendered in the request's wire format.

    Attributes:
        status: HTTP status; some vendors have one of their own for a ``reason``.
        message: text for a person.
        reason: reason that the status alone does not identify.
        retry_after: the ``Retry-After`` header, seconds or an HTTP date.
        reset_s: seconds until the limit permits more, in the vendor's own form (OpenAI's ``x-ratelimit-*``,
            Anthropic's reset times, Gemini's ``RetryInfo``).
        code: OpenAI's machine-readable code; None for that of the reason.
        param: invalid parameter of the request, where the vendor names it.
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
    """Event of a stream, as bytes on the wire.

    ``kind``: ``piece`` carries a piece of the answer, ``finish`` the finish reason, ``end`` is the marker after which
    nothing comes, and ``frame`` is everything else.
    """

    data: bytes
    kind: Literal["frame", "piece", "finish", "end"]


def pieces(text: str) -> list[str]:
    """Split a text into words, each with the white space before it.

    Joined, they are the text.
    """
    return _PIECES.findall(text)


def numbered(text: str, index: int) -> str:
    """Return the text of the ``index``-th of several answers.

    The first is the text itself.
    """
    return text if index == 0 else f"{text} ({index + 1})"


def words(text: str) -> int:
    """Count the tokens of a text, as this server does."""
    return len(text.split())


def logprob(token: str) -> float:
    """Return a log probability for a token, from -1 to 0.

    It is the same on every machine.
    """
    return -hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()[0] / 256


def alternatives(token: str, value: float, count: int) -> list[tuple[str, float]]:
    """Return the token and made-up, less likely ones, with logprobs.

    The token itself has ``value``.
    """
    return [(token if rank == 0 else f"{token}~{rank}", value - 2.0 * rank) for rank in range(count)]


def encode(value: object) -> bytes:
    """Encode JSON as vendors send it: UTF-8, not escaped.

    Except where a text has no UTF-8 (a lone surrogate).
    """
    try:
        return _JSON.encode(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


JSON = {"content-type": "application/json"}

Then: TypeAlias = Literal["stall", "reset", "close", "error", "malformed", "unmarked"]
"""Fault in the delivery of an answer: no more bytes, a connection reset, an early but orderly end, an error event,
an event that is not JSON, or only a missing end marker."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivery of an answer; by default all at once, without a fault.

    Attributes:
        then: the fault; None: none.
        after: pieces of text before the fault; None: all of them.
        at_end: true for a fault after the finish reason, whatever ``after`` is.
        keepalive_s: interval at which a stalled stream still sends the vendor's keep-alive (a comment, a ping),
            seconds; 0: none.
        sizes: lengths of the parts, bytes, repeated in a cycle; empty: each event is a part.
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
    """Scripted reply; without arguments, the default answer.

    A request that the vendor would refuse (a wrong key, a wrong body) is refused, unless the reply has a ``body`` or a
    ``failure``: those are sent for any request.

    Attributes:
        status: HTTP status of a ``body``.
        body: sent as it is, whatever the wire format.
        headers: sent with it.
        delay_s: wait before answering, seconds; cut short when the server stops.
        answer: the answer of the model; None with neither ``body`` nor ``failure`` is the default answer.
        failure: an error instead of an answer.
        delivery: speed of parts, and faults.
        counted: true to send usage.
        number: number that the model answers with alone, in the requested form; see :func:`number`.
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
    """Answer with this text, or with these tool calls.

    ``usage=False`` leaves the counts out. ``logprob`` is the log probability of every token, where they are requested:
    the model's confidence. ``reasoning`` is its reasoning text; ``loose`` streams calls without ids or numbers, as some
    servers of OpenAI's format do.
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
    """Answer with a number alone, as a judge does.

    As text, or in the JSON that the request's schema requires.

    A judge that chooses a model (``judge`` in ``semroute.yaml``) answers with the number of a candidate, from 1; one
    that grades answers (``semroute label --judge``) with a grade from 0 to 10. In JSON every number that the schema
    leaves free is this one, and every text whose choices name it; a schema without a place for it gets what it allows.
    """
    return Reply(number=value)


def refusal(text: str = "I cannot help with that.") -> Reply:
    """Answer with a refusal by the model.

    OpenAI's ``refusal``, Anthropic's stop reason, Gemini's finish reason.
    """
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
    """Answer with an error in the vendor's format.

    Args:
        status: HTTP status.
        message: text of the error.
        retry_after: the ``Retry-After`` header, seconds or an HTTP date.
        reset_s: seconds until more is permitted, in the vendor's form: OpenAI's ``x-ratelimit-reset-*``,
            Anthropic's ``anthropic-ratelimit-*-reset``, Gemini's ``RetryInfo``.
        headers: further headers.
    """
    failure = Failure(status, message, retry_after=retry_after, reset_s=reset_s)
    return Reply(status, headers={**JSON, **(headers or {})}, failure=failure)


def quota_exhausted() -> Reply:
    """Fail with an exhausted quota, which no waiting helps.

    A 429, at Anthropic a 400 with a message of its own.
    """
    message = "You exceeded your current quota, please check your plan and billing details."
    return Reply(failure=Failure(429, message, "quota"))


def context_length() -> Reply:
    """Fail with the 400 of a request longer than the model accepts."""
    message = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
    return Reply(failure=Failure(400, message, "context_length", param="messages"))


def invalid_encrypted_content() -> Reply:
    """Fail with the 400 of reasoning that another account sealed (Responses)."""
    message = "The encrypted content gAAA...DQ== could not be verified."
    return Reply(failure=Failure(400, message, code="invalid_encrypted_content", param="input"))


def content_filter() -> Reply:
    """Fail with the provider's content filter.

    A 400, at Gemini a 200 without candidates.
    """
    message = "The prompt triggered the content management policy. Please modify your prompt and try again."
    return Reply(failure=Failure(400, message, "content_filter", param="prompt"))


def error_in_200(message: str = "scripted failure", *, code: int | str | None = None) -> Reply:
    """Answer 200 with an error object instead of an answer.

    In a stream it is the only event.
    """
    return Reply(failure=Failure(200, message, code=code))


def empty_choices() -> Reply:
    """Answer 200 with an empty answer.

    No choices (OpenAI), no content (Anthropic), no candidates (Gemini).
    """
    return Reply(answer=Answer(hollow=True, model="scripted", input_tokens=1))


def no_usage(reply: Reply | None = None) -> Reply:
    """Leave the counts out of a reply (or of the default answer)."""
    return replace(reply or Reply(), counted=False)


def malformed(text: str = '{"choices": [{"mess') -> Reply:
    """Answer 200 with a body that is not JSON.

    It is not streamed, even where a stream was requested.
    """
    return Reply(body=text.encode())


def hang(seconds: float = 3600.0, reply: Reply | None = None) -> Reply:
    """Send nothing, not even headers, for some seconds; then a reply.

    The default answer, unless given.
    """
    return replace(reply or Reply(), delay_s=seconds)


# Faults in the delivery. Each takes the reply that it applies to: the default answer, unless given.
#
# ``after`` counts pieces of text (words). An answer that is not streamed has no pieces: half its bytes are sent.


def stall_after(pieces: int, reply: Reply | None = None, *, keepalive_s: float = 0.0) -> Reply:
    """Send some pieces, and then nothing more on an open connection.

    Or only keep-alives at an interval, seconds.
    """
    broken = _broken(reply, "stall", pieces)
    return replace(broken, delivery=replace(broken.delivery, keepalive_s=keepalive_s))


def reset_after(pieces: int, reply: Reply | None = None) -> Reply:
    """Send some pieces, and then reset the connection (RST)."""
    return _broken(reply, "reset", pieces)


def stall_at_end(reply: Reply | None = None) -> Reply:
    """Stall after the whole answer and its finish reason.

    The connection stays open.
    """
    return _at_end(_broken(reply, "stall", None))


def reset_at_end(reply: Reply | None = None) -> Reply:
    """Reset the connection (RST) after the answer and its finish reason."""
    return _at_end(_broken(reply, "reset", None))


def truncated(after: int | None = None, reply: Reply | None = None) -> Reply:
    """End a stream in order, without finish reason and end marker.

    After some pieces, or all of them.
    An answer that is not streamed ends before its content-length.
    """
    return _broken(reply, "close", after)


def no_end_marker(reply: Reply | None = None) -> Reply:
    """Send a whole stream without ``[DONE]`` or ``message_stop``.

    Finish reason and usage are there.
    """
    return _broken(reply, "unmarked", None)


def error_event(after: int = 0, reply: Reply | None = None) -> Reply:
    """Send an error in the middle of a 200.

    As an event after some pieces; instead of the answer if not streamed.
    """
    return _broken(reply, "error", after)


def malformed_event(after: int = 0, reply: Reply | None = None) -> Reply:
    """Send an event that is not JSON after some pieces, then the rest.

    Not streamed: a body that is not JSON.
    """
    return _broken(reply, "malformed", after)


def split_sse(sizes: Sequence[int] = (1, 2, 3, 5, 7), reply: Reply | None = None) -> Reply:
    """Send the answer's bytes in parts of these sizes, in a cycle.

    Splits are in the middle of lines, and of characters.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError("sizes must be whole numbers above 0")
    reply = reply or Reply()
    return replace(reply, delivery=replace(reply.delivery, sizes=tuple(sizes)))


def drip(interval_s: float = 0.05, reply: Reply | None = None) -> Reply:
    """Send one event in every interval, seconds.

    An answer that is not streamed is sent in eight parts.
    """
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


# Name: the reply, and the parser of the argument after a colon.
NAMED: Mapping[str, tuple[_Maker, Callable[[str], object] | None]] = {
    "ok": (Reply, None),
    "answer": (answer, str),
    "number": (number, int),
    "refusal": (refusal, None),
    "quota": (quota_exhausted, None),
    "context-length": (context_length, None),
    "invalid-encrypted-content": (invalid_encrypted_content, None),
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
    """Parse a list of replies such as ``429,hang:2,ok``.

    Raises:
        ValueError: a word is not a reply.
    """
    return tuple(reply(word.strip()) for word in text.split(","))


def reply(word: str) -> Reply:
    """Parse one reply: a name of :data:`NAMED`, or an error status.

    ``429:2`` has a ``Retry-After`` of 2 s.

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
    """Parse the retry hint of an error status.

    ``429`` hints at 1 s, ``429:none`` at nothing, ``429:reset=2`` in the vendor's own way.
    """
    if argument == "none":
        return fail(status)
    if argument.startswith("reset="):
        return fail(status, reset_s=float(argument.removeprefix("reset=")))
    if argument:
        return fail(status, retry_after=float(argument))
    return fail(status, retry_after=1 if status == 429 else None)

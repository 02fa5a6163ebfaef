"""Scripted replies: what to answer, and how it travels. Each renders itself in the wire format of its request.

How an answer breaks on its way is in :mod:`semroute.testing.faults`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from semroute.testing.neutral import Answer, Call, Failure, Finish

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

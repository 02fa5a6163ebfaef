"""Validation of completions in all formats: content and token counts."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, TypeAlias, TypeGuard

from pydantic import Field

from semroute.errors import ContentFilterError, DispatchError, EmptyAnswerError
from semroute.providers.messages import ends_with_result
from semroute.providers.target import CallTarget
from semroute.types import Alternative, Completion, Delta, Request, ToolCall, ToolCallDelta, Usage

MAX_TOKENS = 10_000_000
"""Highest plausible token count: the largest context window that a vendor offers (Llama 4 Scout's)."""

Count: TypeAlias = Annotated[int, Field(ge=0, le=MAX_TOKENS)]
"""Token count on the wire."""

NOTHING = Delta()
"""Piece of an event without content."""

_INVISIBLE = frozenset({"Cc", "Cf"})


def is_blank(text: str) -> bool:
    """Return True if a text has no visible character.

    White space, control and format characters (U+200B, a byte order mark) are invisible.
    """
    return not text.strip() or all(
        character.isspace() or unicodedata.category(character) in _INVISIBLE for character in text
    )


def is_count(value: object) -> TypeGuard[int]:
    """Return True if a value is a plausible token count."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


def merge_usage(known: Usage | None, later: Usage | None) -> Usage | None:
    """Return the field-wise maximum of two token usages.

    The counts of a stream only grow, and its last one may be zero.
    """
    if known is None or later is None:
        return later or known
    return Usage(
        max(known.input_tokens, later.input_tokens),
        max(known.output_tokens, later.output_tokens),
        max(known.cached_tokens, later.cached_tokens),
        max(known.cache_write_tokens, later.cache_write_tokens),
        max(known.reasoning_tokens, later.reasoning_tokens),
    )


def checked(completion: Completion, target: CallTarget, request: Request, reason: str) -> Completion:
    """Return the completion if not empty, without implausible token counts.

    Zero output tokens mean that the provider did not count: the cost is then estimated like that of any other answer
    without ``usage``.

    Args:
        completion: completion as parsed from the wire format.
        target: call target.
        request: request that was sent.
        reason: name and value of the format's own finish reason, for the message.

    Raises:
        EmptyAnswerError: it has neither visible text nor a tool call nor a refusal. A turn that follows a tool's result
            may be empty: the model has nothing to add (https://docs.anthropic.com/en/api/handling-stop-reasons).
    """
    if _says_something(completion):
        usage = completion.usage
        return replace(completion, usage=None) if usage is not None and not usage.output_tokens else completion
    if completion.finish_reason == "stop" and ends_with_result(request):
        return completion
    raise _empty(completion, target, request, reason)


def _says_something(completion: Completion) -> bool:
    if completion.tool_calls or completion.refusal or completion.finish_reason == "refusal":
        return True
    return not is_blank(completion.text)


def _empty(completion: Completion, target: CallTarget, request: Request, reason: str) -> EmptyAnswerError:
    name, usage, finish = target.deployment.name, completion.usage, completion.finish_reason
    if finish == "length":
        spent = (
            f" ({usage.reasoning_tokens} tokens of reasoning)" if usage is not None and usage.reasoning_tokens else ""
        )
        limit = f"max_tokens of {request.max_tokens}" if request.max_tokens is not None else "limit of its output"
        message = f"{name} answered without text: its {limit} was used up before it wrote any{spent}; raise max_tokens"
    else:
        message = f"{name} answered without text ({reason})"
    error = EmptyAnswerError(message, deployment=name, status=200, usage=usage)
    error.finish_reason = finish
    has_written = usage is not None and usage.output_tokens > 0
    error.is_the_requests = finish == "length" or bool(request.stop) or has_written
    return error


def combined(readings: Iterable[Callable[[], Completion]]) -> Completion:
    """Return the first valid alternative, with the others attached.

    Args:
        readings: functions that each parse one alternative, or raise why it is invalid.

    Raises:
        DispatchError: error of the first alternative, if none is valid.
    """
    answers: list[Completion] = []
    errors: list[DispatchError] = []
    for reading in readings:
        try:
            answers.append(reading())
        except (EmptyAnswerError, ContentFilterError) as error:
            errors.append(error)
    if not answers:
        raise errors[0]
    first, *others = answers
    if not others:
        return first
    alternatives = [
        Alternative(o.text, o.finish_reason, o.tool_calls, o.refusal, o.logprobs, o.reasoning, o.reasoning_blocks)
        for o in others
    ]
    return replace(first, alternatives=tuple(alternatives))


def merged(pieces: Iterable[Delta]) -> Delta:
    """Return consecutive pieces of a stream as one."""
    found = list(pieces)
    if len(found) == 1:
        return found[0]
    return Delta(
        "".join(piece.text for piece in found),
        tuple(token for piece in found for token in piece.logprobs),
        tuple(call for piece in found for call in piece.tool_calls),
        "".join(piece.reasoning for piece in found),
        tuple(block for piece in found for block in piece.reasoning_blocks),
    )


class CallIds:
    """Unique ids of the tool calls of one answer, in the order of the calls.

    A missing or duplicate id is generated: the same for the same answer, and different from those of the conversation,
    since later turns refer to calls by it. It does not depend on the arguments, which a stream sends later.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._seen: set[str] = set()
        self._taken: set[str] | None = None

    def next(self, given: str, name: str) -> str:
        """Return the id of the next call, whose provider ``given`` an id or ""."""
        if not given or given in self._seen:
            given = self._generated(name)
        self._seen.add(given)
        return given

    def _generated(self, name: str) -> str:
        if self._taken is None:
            self._taken = set(_known_ids(self._request))
        key = f"{len(self._request.messages)}|{len(self._seen)}|{name}"
        while True:
            id = f"call_{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
            if id not in self._seen and id not in self._taken:
                return id
            key += "|"


def _known_ids(request: Request) -> Iterator[str]:
    """Yield the ids of the conversation's calls."""
    for message in request.messages:
        calls = message.get("tool_calls") if isinstance(message, Mapping) else None
        for call in calls if isinstance(calls, list | tuple) else ():
            if isinstance(call, Mapping) and isinstance(id := call.get("id"), str):
                yield id


def with_ids(calls: Sequence[ToolCall], request: Request) -> tuple[ToolCall, ...]:
    """Return the tool calls, each with a unique id; see :class:`CallIds`."""
    ids = CallIds(request)
    return tuple(replace(call, id=ids.next(call.id, call.name)) for call in calls)


class SentCalls:
    """Fragments of tool calls that a stream has given out.

    A server may send a call's arguments with its end, or none at all; the fragments together are the whole calls all
    the same.
    """

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}
        self._signed: set[int] = set()

    def note(self, fragments: Iterable[ToolCallDelta]) -> None:
        """Note fragments that were given out."""
        for fragment in fragments:
            self._lengths[fragment.index] = self._lengths.get(fragment.index, 0) + len(fragment.arguments)
            if fragment.signature is not None:
                self._signed.add(fragment.index)

    def rest(self, calls: Sequence[ToolCall]) -> tuple[ToolCallDelta, ...]:
        """Return the missing fragments of the calls of a complete answer."""
        return tuple(self._missing(calls))

    def _missing(self, calls: Sequence[ToolCall]) -> Iterator[ToolCallDelta]:
        for index, call in enumerate(calls):
            sent = self._lengths.get(index)
            signature = None if index in self._signed else call.signature
            if sent is None:
                yield ToolCallDelta.opening(index, call)
            elif sent < len(call.arguments) or signature is not None:
                yield ToolCallDelta(index, arguments=call.arguments[sent:], signature=signature)

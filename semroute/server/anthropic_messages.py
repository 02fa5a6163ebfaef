"""Anthropic's Messages, served.

Source: https://docs.anthropic.com/en/api/messages, .../messages-streaming (the order of events), .../errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from secrets import token_hex
from typing import Any

from semroute.catalog import estimate_tokens
from semroute.server.anthropic_requests import request_of
from semroute.server.formats import (
    AnswerStream,
    ServedCall,
    ServedError,
    asked_model,
    is_streamed,
    json_bytes,
    vendor_headers,
)
from semroute.server.overflow import Overflow
from semroute.types import Completion, Delta, ReasoningBlock, ToolCallDelta, Usage

STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "other": "end_turn",
}

_TYPES: Mapping[str, str] = {
    "invalid_request": "invalid_request_error",
    "context_length": "invalid_request_error",
    "content_filter": "invalid_request_error",
    "not_found": "not_found_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "rate_limit": "rate_limit_error",
    "too_large": "request_too_large",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "upstream": "api_error",
    "internal": "api_error",
}
OVERLOADED = 529
"""Status that Anthropic's clients know for an overloaded server."""

BETAS = frozenset({"anthropic-beta"})
"""Headers of a client that go to deployments of Anthropic's format; no other does."""


class Messages:
    """Anthropic's Messages as a server's format."""

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ServedCall:
        """Return the call in a body, with the beta features of its headers.

        Raises:
            InputError: the body cannot be used; the message names the path.
        """
        model, streaming = asked_model(body), is_streamed(body)
        request = request_of(body, headers=vendor_headers(headers or {}, BETAS))
        return ServedCall(model, request, streaming)

    def answer(self, call: ServedCall, completion: Completion) -> Mapping[str, object]:
        """Return the body of a whole answer; ``model`` is the one that answered.

        It is the vendor's own where that speaks this format.
        """
        id = f"msg_{completion.outcome_id or token_hex(12)}"
        if completion.native is not None:
            return {**completion.native, "id": id}
        return {
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": completion.model,
            "content": _blocks(completion),
            "stop_reason": _stop_reason(completion),
            "stop_sequence": None,
            "usage": usage_of(completion.usage),
        }

    def stream(self, call: ServedCall) -> AnswerStream:
        """Return the encoder of a streamed answer."""
        return _MessageStream(call)

    def error(self, status: int, kind: str, message: str, wait_s: float | None = None) -> ServedError:
        """Return an error in Anthropic's shape."""
        body = {"type": "error", "error": {"type": _TYPES[kind], "message": message}}
        return ServedError(OVERLOADED if kind == "overloaded" else status, body, wait_s)

    def overflow(self, overflow: Overflow) -> str:
        """Return Anthropic's sentence for a request that is too long."""
        counted, most = overflow.input_tokens, overflow.maximum
        if overflow.longest_answer is not None:
            exceeded = f"max_tokens: {overflow.output_tokens} > {overflow.longest_answer}"
            return f"{exceeded}, which is the maximum allowed number of output tokens"
        if most is None:
            return "prompt is too long"
        if overflow.is_by_answer:
            asked = f"input length and `max_tokens` exceed context limit: {counted} + {overflow.output_tokens} > {most}"
            return f"{asked}, decrease input length or `max_tokens` and try again"
        return f"prompt is too long: {counted} tokens > {most} maximum"


# From a completion to an answer.


def _stop_reason(completion: Completion) -> str:
    if completion.tool_calls and completion.finish_reason in (None, "stop", "tool_calls"):
        return "tool_use"
    return STOP_REASONS.get(completion.finish_reason or "stop", "end_turn")


def _blocks(completion: Completion) -> list[dict[str, object]]:
    blocks = [block.to_dict() for block in completion.reasoning_blocks]
    text = completion.text or completion.refusal
    if text:
        blocks.append({"type": "text", "text": text})
    for call in completion.tool_calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)})
    return blocks


def _input(arguments: str) -> dict[str, object]:
    """Return a call's arguments as an object.

    Text that is none stands under ``arguments``.
    """
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"arguments": arguments}


def usage_of(usage: Usage | None) -> dict[str, object]:
    """Return token counts in Anthropic's shape: input without cached tokens."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    cached = usage.cached_tokens + usage.cache_write_tokens
    return {
        "input_tokens": max(usage.input_tokens - cached, 0),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }


class _MessageStream:
    """Encoder of a streamed answer as Anthropic's events.

    One content block is open at a time.

    Fragments of parallel calls may come interleaved (OpenAI's format allows it). Those of the first call are sent as
    they come; those of the others, and text after a call, wait for the end, since a block that is closed stays closed.
    """

    def __init__(self, call: ServedCall) -> None:
        self._call = call
        self._id = f"msg_{token_hex(12)}"
        self._index = -1
        self._first = 0  # index of the first block of the vendor's whose events are passed on
        self._has_started = self._has_stopped = self._has_ended = False
        self._open: str | None = None  # "text", "thinking", "native", or "tool" with the number of the call
        self._waiting: dict[int, list[ToolCallDelta]] = {}
        self._late: list[str] = []  # text after the first tool call

    def start(self) -> Iterator[bytes]:
        self._has_started = True
        message: dict[str, object] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._call.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._estimate(), "output_tokens": 1},
        }
        yield _event("message_start", {"message": message})
        yield self.ping()

    def _estimate(self) -> int:
        # Some clients take a count of 0 for a failure.
        return max(1, estimate_tokens(self._call.request))

    def delta(self, delta: Delta) -> Iterator[bytes]:
        if delta.native:
            for event in delta.native:
                yield from self._pass_on(event)
            return
        is_calling = (self._open or "").startswith("tool")
        if delta.reasoning and not is_calling and len(delta.reasoning_blocks) < 2:
            yield from self._think(delta.reasoning)
        for block in delta.reasoning_blocks:
            yield from self._sign(block)
        if delta.text and is_calling:
            self._late.append(delta.text)
        elif delta.text:
            yield from self._say(delta.text)
        for fragment in delta.tool_calls:
            yield from self._fragment(fragment)

    def end(self, completion: Completion) -> Iterator[bytes]:
        if not self._has_stopped:
            yield from self._stop(completion)
        if not self._has_ended:
            yield _event("message_stop", {})

    def _stop(self, completion: Completion) -> Iterator[bytes]:
        for fragments in self._taken():
            for fragment in fragments:
                yield from self._write(fragment)
        late = "".join(self._late) or ("" if completion.text else completion.refusal)
        if late:
            yield from self._say(late)
        yield from self._leave()
        stop = {"stop_reason": _stop_reason(completion), "stop_sequence": None}
        yield _event("message_delta", {"delta": stop, "usage": usage_of(completion.usage)})

    def fail(self, error: ServedError) -> Iterator[bytes]:
        yield b"event: error\ndata: " + json_bytes(error.body) + b"\n\n"

    def ping(self) -> bytes:
        return _event("ping", {})

    def _pass_on(self, event: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield an event of a vendor of this format.

        Another deployment may have begun the answer with reasoning before it failed: its open block is then closed, and
        the blocks that follow are counted on.
        """
        kind, index = event.get("type"), event.get("index")
        if not isinstance(kind, str) or not kind.isprintable():
            return
        if kind == "message_start":
            yield from self._leave()
            self._first = self._index + 1
            if self._has_started:
                return
            self._has_started = True
            event = {**event, "message": {**self._counted(event.get("message") or {}), "id": self._id}}
        if isinstance(index, int):
            event = {**event, "index": self._first + index}
        if kind == "content_block_start":
            self._open, self._index = "native", event["index"]
        elif kind == "content_block_stop":
            self._open = None
        self._has_stopped = self._has_stopped or kind == "message_delta"
        self._has_ended = self._has_ended or kind == "message_stop"
        yield _line(kind, event)

    def _counted(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a message's start, with an estimate for missing input tokens."""
        usage = message.get("usage") or {}
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        if any(usage.get(name) for name in names):
            return message
        return {**message, "usage": {"output_tokens": 1, **usage, "input_tokens": self._estimate()}}

    def _think(self, text: str) -> Iterator[bytes]:
        yield from self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        yield self._piece({"type": "thinking_delta", "thinking": text})

    def _sign(self, block: ReasoningBlock) -> Iterator[bytes]:
        """Close a block of reasoning with its signature.

        The client sends it back to models of its own vendor.
        """
        if block.redacted is not None:
            yield from self._enter("redacted", block.to_dict())
        else:
            if self._open != "thinking":
                yield from self._think(block.text)
            yield self._piece({"type": "signature_delta", "signature": block.signature or ""})
        yield from self._leave()

    def _say(self, text: str) -> Iterator[bytes]:
        yield from self._enter("text", {"type": "text", "text": ""})
        yield self._piece({"type": "text_delta", "text": text})

    def _fragment(self, fragment: ToolCallDelta) -> Iterator[bytes]:
        is_open = self._open == f"tool {fragment.index}"
        if is_open or (fragment.id is not None and not (self._open or "").startswith("tool")):
            yield from self._write(fragment)
        else:
            self._waiting.setdefault(fragment.index, []).append(fragment)

    def _taken(self) -> Iterator[list[ToolCallDelta]]:
        while self._waiting:
            yield self._waiting.pop(min(self._waiting))

    def _write(self, fragment: ToolCallDelta) -> Iterator[bytes]:
        block: dict[str, object] = {"type": "tool_use", "id": fragment.id, "name": fragment.name, "input": {}}
        yield from self._enter(f"tool {fragment.index}", block)
        if fragment.arguments:
            yield self._piece({"type": "input_json_delta", "partial_json": fragment.arguments})

    def _enter(self, kind: str, block: Mapping[str, object]) -> Iterator[bytes]:
        if self._open == kind:
            return
        yield from self._leave()
        self._index += 1
        self._open = kind
        yield _event("content_block_start", {"index": self._index, "content_block": block})

    def _leave(self) -> Iterator[bytes]:
        if self._open is not None:
            yield _event("content_block_stop", {"index": self._index})
        self._open = None

    def _piece(self, delta: Mapping[str, object]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})


def _event(kind: str, body: Mapping[str, object]) -> bytes:
    return _line(kind, {"type": kind, **body})


def _line(kind: str, body: Mapping[str, object]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + json_bytes(body) + b"\n\n"

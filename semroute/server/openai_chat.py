"""OpenAI's Chat Completions, served.

Source: https://platform.openai.com/docs/api-reference/chat/create, .../chat-streaming, and
https://platform.openai.com/docs/guides/error-codes for the shapes of errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from secrets import token_hex
from typing import Any

from semroute.errors import InputError
from semroute.server.formats import (
    HINTS,
    AnswerStream,
    ServedCall,
    ServedError,
    asked_model,
    is_streamed,
    json_bytes,
    vendor_headers,
)
from semroute.server.overflow import Overflow
from semroute.types import Alternative, Completion, Delta, NativeBody, Request, TokenLogprob, ToolCallDelta, Usage
from semroute.types.openai import request_fields

FINISHES: Mapping[str, str] = {"refusal": "content_filter", "other": "stop"}
"""Reasons to stop that OpenAI names otherwise."""

_TYPES: Mapping[str, tuple[str, str | None]] = {
    "invalid_request": ("invalid_request_error", None),
    "context_length": ("invalid_request_error", "context_length_exceeded"),
    "content_filter": ("invalid_request_error", "content_filter"),
    "not_found": ("invalid_request_error", "model_not_found"),
    "authentication": ("invalid_request_error", "invalid_api_key"),
    "permission": ("invalid_request_error", "permission_denied"),
    "rate_limit": ("rate_limit_exceeded", "rate_limit_exceeded"),
    "too_large": ("invalid_request_error", "request_too_large"),
    "overloaded": ("server_error", "overloaded"),
    "timeout": ("server_error", "timeout"),
    "upstream": ("server_error", "upstream_error"),
    "internal": ("server_error", None),
}


BETAS = frozenset({"openai-beta"})
"""Headers of a client that go to deployments of OpenAI's format; no other does."""

_DEPRECATED = ("functions", "function_call")
_OF_A_MESSAGE: Mapping[str, frozenset[str]] = {
    "system": frozenset({"role", "content", "cache_control"}),
    "developer": frozenset({"role", "content", "cache_control"}),
    "user": frozenset({"role", "content", "cache_control"}),
    "tool": frozenset({"role", "content", "cache_control", "tool_call_id", "name", "is_error"}),
}
"""Fields of messages that every wire format has; of an assistant's message other fields are left out elsewhere."""
_PARTS = frozenset({"text", "image_url", "refusal"})
_ASSISTANT_PARTS = _PARTS | {"thinking", "redacted_thinking", "reasoning"}
_BLOCKS = frozenset({"tool_use", "tool_result", "image"})  # Anthropic's, which are read as OpenAI's


class ChatCompletions:
    """OpenAI's Chat Completions as a server's format."""

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ServedCall:
        """Return the call in a body, with the beta features of its headers.

        Raises:
            InputError: the body cannot be used; the message names the path.
        """
        model, streaming = asked_model(body), is_streamed(body)
        request = _request(body, vendor_headers(headers or {}, BETAS))
        if streaming and request.n not in (None, 1):
            raise InputError("n: a stream gives one answer; leave out n, or stream")
        return ServedCall(model, request, streaming, _includes_usage(body.get("stream_options")))

    def answer(self, call: ServedCall, completion: Completion) -> Mapping[str, object]:
        """Return the body of a whole answer; ``model`` is the one that answered.

        It is the vendor's own where that speaks this format.
        """
        if completion.native is not None:
            return {**completion.native, "id": answer_id(completion)}
        answers: list[Completion | Alternative] = [completion, *completion.alternatives]
        return {
            "id": answer_id(completion),
            "object": "chat.completion",
            "created": call.created,
            "model": completion.model,
            "choices": [_choice(index, one) for index, one in enumerate(answers)],
            "usage": usage_of(completion.usage),
        }

    def stream(self, call: ServedCall) -> AnswerStream:
        """Return the encoder of a streamed answer."""
        return _ChunkStream(call)

    def error(self, status: int, kind: str, message: str, wait_s: float | None = None) -> ServedError:
        """Return an error in OpenAI's shape."""
        return ServedError(status, error_body(kind, message), wait_s)

    def overflow(self, overflow: Overflow) -> str:
        """Return OpenAI's sentence for a request that is too long."""
        counted, asked, most = overflow.input_tokens, overflow.output_tokens, overflow.maximum
        if overflow.longest_answer is not None:
            supported = f"This model supports at most {overflow.longest_answer} completion tokens"
            return f"max_tokens is too large: {asked}. {supported}, whereas you provided {asked}."
        if most is None:
            return "This model's maximum context length is exceeded. Please reduce the length of the messages."
        parts = f" ({counted} in the messages, {asked} in the completion)" if asked else ""
        return (
            f"This model's maximum context length is {most} tokens. However, you requested {counted + asked} tokens"
            f"{parts}. Please reduce the length of the messages or completion."
        )


def _request(body: Mapping[str, Any], headers: Mapping[str, str]) -> Request:
    """Return the request in a body, with the body itself for native use.

    Deployments of OpenAI's format get it.

    Raises:
        InputError: the body cannot be used; the message names the path.
    """
    features = [name for name in _DEPRECATED if body.get(name) is not None]
    plain = {name: value for name, value in body.items() if name not in _DEPRECATED} if features else body
    fields = request_fields(plain)
    for index, message in enumerate(fields["messages"]):
        if isinstance(message, Mapping) and not _is_plain(message):
            features += _features(message, f"messages[{index}]")
    # As Request.from_openai, without a copy for the body.
    native = NativeBody("openai", body, headers, tuple(features))
    return Request(**fields, droppable=HINTS, native=native)


def _is_plain(message: Mapping[str, Any]) -> bool:
    """Return True for text of a role that every format has.

    Nearly every message is.
    """
    has_more = len(message) > 2 or not isinstance(message.get("content"), str)
    return not has_more and message.get("role") in ("user", "assistant", "system", "developer")


def _features(message: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield what only OpenAI's format has in a message."""
    role = message.get("role")
    is_answer, known = role == "assistant", _OF_A_MESSAGE.get(role) if isinstance(role, str) else None
    if known is not None:
        yield from (f"{path}.{key:.40}" for key, value in message.items() if value and key not in known)
    elif not is_answer:
        yield f"{path} (role {role!s:.40})"
    elif message.get("function_call"):
        yield f"{path}.function_call"
    content, calls = message.get("content"), message.get("tool_calls")
    parts = content if isinstance(content, list) else ()
    allowed = (_ASSISTANT_PARTS if is_answer else _PARTS) | _BLOCKS
    for index, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, Mapping) else None
        image = part.get("image_url") if kind == "image_url" else None
        if isinstance(kind, str) and kind not in allowed:
            yield f"{path}.content[{index}] ({kind:.40})"
        elif isinstance(image, Mapping) and image.get("detail") not in (None, "auto"):
            yield f"{path}.content[{index}].image_url.detail"
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, Mapping) and call.get("type") not in (None, "function"):
            yield f"{path}.tool_calls[{index}] ({call['type']!s:.40})"


def error_body(kind: str, message: str) -> dict[str, object]:
    """Return the body of an error.

    ``kind`` is one of :data:`semroute.server.formats.KINDS`.
    """
    type_, code = _TYPES[kind]
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def _includes_usage(options: object) -> bool:
    if options is None:
        return False
    if not isinstance(options, Mapping):
        raise InputError("stream_options: is not a mapping")
    return options.get("include_usage") is True


def answer_id(completion: Completion) -> str:
    """Return an answer's id, which names its outcome for feedback.

    Without a log it is a new one.
    """
    return f"chatcmpl-{completion.outcome_id or token_hex(16)}"


def _choice(index: int, answer: Completion | Alternative) -> dict[str, object]:
    message = {"refusal": None, **answer.message}
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(answer.logprobs),
        "finish_reason": _finish(answer.finish_reason),
    }


def _finish(reason: str | None) -> str:
    return FINISHES.get(reason or "other", reason or "stop")


def _logprobs(logprobs: Sequence[TokenLogprob] | None) -> dict[str, object] | None:
    if not logprobs:
        return None
    content = [
        {"token": one.token, "logprob": one.logprob, "bytes": list(one.token.encode()), "top_logprobs": []}
        for one in logprobs
    ]
    return {"content": content, "refusal": None}


def usage_of(usage: Usage | None) -> dict[str, object] | None:
    """Return token counts in OpenAI's shape."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class _ChunkStream:
    """Encoder of a streamed answer as chunks.

    Which model answers is known only at the end where a cascade may still escalate, so chunks name the model that was
    asked for until the completion is there.
    """

    def __init__(self, call: ServedCall) -> None:
        self._call = call
        self._id = f"chatcmpl-{token_hex(16)}"
        self._has_finished = self._has_counted = False

    def start(self) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})

    def delta(self, delta: Delta) -> Iterator[bytes]:
        if delta.native:
            for chunk in delta.native:
                yield from self._pass_on(chunk)
            return
        piece: dict[str, object] = {}
        if delta.text:
            piece["content"] = delta.text
        if delta.reasoning:
            piece["reasoning_content"] = delta.reasoning
        if delta.tool_calls:
            piece["tool_calls"] = [_fragment(call) for call in delta.tool_calls]
        if piece:
            yield self._chunk(piece, logprobs=_logprobs(delta.logprobs))

    def end(self, completion: Completion) -> Iterator[bytes]:
        last = {} if completion.refusal is None else {"refusal": completion.refusal}
        if not self._has_finished:
            yield self._chunk(last, finish=_finish(completion.finish_reason), model=completion.model)
        if self._call.include_usage and not self._has_counted:
            counted = self._body(completion.model)
            yield _event({**counted, "choices": [], "usage": usage_of(completion.usage)})
        yield b"data: [DONE]\n\n"

    def fail(self, error: ServedError) -> Iterator[bytes]:
        yield _event(error.body)

    def ping(self) -> bytes:
        return b": ping\n\n"

    def _pass_on(self, chunk: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield a chunk of a vendor of this format, token counts if wanted.

        The gateway always asks for the counts.
        """
        is_count = chunk.get("usage") is not None
        if not self._call.include_usage:
            if is_count and not chunk.get("choices"):
                return
            chunk = {name: value for name, value in chunk.items() if name != "usage"}
        self._has_counted = self._has_counted or is_count
        self._has_finished = self._has_finished or any(one.get("finish_reason") for one in chunk.get("choices") or ())
        yield _event({**chunk, "id": self._id})

    def _body(self, model: str | None = None) -> dict[str, object]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._call.created,
            "model": model or self._call.model,
        }

    def _chunk(
        self,
        delta: Mapping[str, object],
        *,
        finish: str | None = None,
        model: str | None = None,
        logprobs: Mapping[str, object] | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        uncounted = {"usage": None} if self._call.include_usage else {}
        return _event({**self._body(model), "choices": [choice], **uncounted})


def _fragment(call: ToolCallDelta) -> dict[str, object]:
    named = {} if call.name is None else {"name": call.name}
    key = "input" if call.type == "custom" else "arguments"
    fragment: dict[str, object] = {"index": call.index, "function": {**named, key: call.arguments}}
    if call.id is not None:
        fragment |= {"id": call.id, "type": call.type or "function"}
    if call.signature is not None:
        fragment["extra_content"] = {"google": {"thought_signature": call.signature}}
    return fragment


def _event(body: object) -> bytes:
    return b"data: " + json_bytes(body) + b"\n\n"

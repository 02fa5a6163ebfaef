"""OpenAI's wire format: chat completions, streamed and not, and error objects.

Source of the shapes: https://platform.openai.com/docs/api-reference/chat and .../guides/error-codes;
of the rate-limit headers: https://platform.openai.com/docs/guides/rate-limits;
of the filtered prompt: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from semroute.testing import openai_checks
from semroute.testing.http11 import HttpRequest
from semroute.testing.neutral import Answer, ChatRequest, Failure, StreamEvent, alternatives, encode, numbered, pieces

_CODES = {"key": "invalid_api_key", "context_length": "context_length_exceeded", "content_filter": "content_filter"}
read = openai_checks.read
KEEPALIVE = b": keep-alive\n\n"
MALFORMED_EVENT = b'data: {"choices": [{"delta": {"con\n\n'


def refused(request: HttpRequest, key: str) -> Failure | None:
    """The failure where the request does not carry the key: as a bearer token, or as Azure's ``api-key``."""
    if request.headers.get("authorization") == f"Bearer {key}" or request.headers.get("api-key") == key:
        return None
    return Failure(401, "incorrect API key provided", "key")


def whole(ask: ChatRequest, answer: Answer) -> dict[str, object]:
    """A chat completion object."""
    choices = [_choice(ask, answer, index) for index in range(0 if answer.hollow else ask.answers)]
    body = _frame(ask, answer, "chat.completion") | {"choices": choices}
    return body | {"usage": _usage(answer)} if answer.counted else body


def _choice(ask: ChatRequest, answer: Answer, index: int) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if answer.refused or (answer.calls and not answer.text) else numbered(answer.text, index),
        "refusal": answer.text if answer.refused else None,
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            {
                **({} if answer.loose else {"id": f"call_{ask.serial}_{number}"}),
                "type": "function",
                "function": {"name": call.name, "arguments": call.text},
            }
            for number, call in enumerate(answer.calls)
        ]
    choice = {"index": index, "message": message, "finish_reason": answer.finish, "logprobs": None}
    if ask.top_logprobs is not None:
        choice["logprobs"] = _logprobs(answer, pieces(answer.text), ask.top_logprobs)
    return choice


def events(ask: ChatRequest, answer: Answer) -> Iterator[StreamEvent]:
    """The chunks of a streamed chat completion, and the marker ``[DONE]``."""
    frame = _frame(ask, answer, "chat.completion.chunk")
    if ask.counted and answer.counted:
        frame["usage"] = None

    def chunk(delta: Mapping[str, object], finish: str | None = None, logprobs: object = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return _event(frame | {"choices": [] if answer.hollow else [choice]})

    yield StreamEvent(chunk({"role": "assistant", "content": None if answer.calls else "", "refusal": None}), "frame")
    for piece in pieces(answer.reasoning):
        yield StreamEvent(chunk({"reasoning_content": piece}), "piece")
    name = "refusal" if answer.refused else "content"
    for piece in pieces(answer.text):
        measured = None if ask.top_logprobs is None else _logprobs(answer, [piece], ask.top_logprobs)
        yield StreamEvent(chunk({name: piece}, logprobs=measured), "piece")
    for index, call in enumerate(answer.calls):
        for opened in _opened(ask, call.name, index, loose=answer.loose):
            yield StreamEvent(chunk({"tool_calls": [opened]}), "frame")
        place = 0 if answer.loose else index
        for piece in pieces(call.text):
            yield StreamEvent(chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]}), "piece")
    yield StreamEvent(chunk({}, answer.finish), "finish")
    if ask.counted and answer.counted:
        yield StreamEvent(_event(frame | {"choices": [], "usage": _usage(answer)}), "finish")
    yield StreamEvent(b"data: [DONE]\n\n", "end")


def _opened(ask: ChatRequest, name: str, index: int, *, loose: bool) -> Iterator[dict[str, object]]:
    """The pieces of a call before its arguments."""
    if loose:
        middle = len(name) // 2
        yield {"index": 0, "type": "function", "function": {"name": name[:middle], "arguments": ""}}
        yield {"index": 0, "function": {"name": name[middle:], "arguments": ""}}
    else:
        function = {"name": name, "arguments": ""}
        yield {"index": index, "id": f"call_{ask.serial}_{index}", "type": "function", "function": function}


def error(failure: Failure) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and body of an error."""
    headers = {} if failure.retry_after is None else {"retry-after": str(failure.retry_after)}
    if failure.reset_s is not None:
        for what, limit in (("requests", 500), ("tokens", 200_000)):
            headers[f"x-ratelimit-limit-{what}"] = str(limit)
            headers[f"x-ratelimit-remaining-{what}"] = "0" if what == "requests" else str(limit // 2)
            headers[f"x-ratelimit-reset-{what}"] = duration(failure.reset_s if what == "requests" else 0.006)
    return failure.status, headers, _error(failure)


def error_event(failure: Failure) -> bytes:
    """An error in the middle of a stream, as compatible servers send it."""
    return _event(_error(failure))


def duration(seconds: float) -> str:
    """A time as OpenAI writes it: ``6m0s``, ``1.5s``, ``20ms``."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h" * (hours > 0) + f"{minutes}m" * (hours + minutes > 0) + f"{rest / 1000:g}s"


def _error(failure: Failure) -> dict[str, object]:
    kind, code = "invalid_request_error" if failure.status < 500 else "server_error", failure.code
    if failure.reason == "quota":
        kind = code = "insufficient_quota"
    elif failure.status == 429:
        kind, code = "requests", code or "rate_limit_exceeded"
    elif failure.status == 200:
        return {"error": {"message": failure.message, "type": "server_error", "code": code}}
    else:
        code = code or _CODES.get(failure.reason)
    body: dict[str, object] = {"message": failure.message, "type": kind, "param": failure.param, "code": code}
    if failure.reason == "content_filter":
        hate = {"filtered": True, "severity": "high"}
        body["innererror"] = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": hate}}
    return {"error": body}


def _frame(ask: ChatRequest, answer: Answer, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-fake{ask.serial}",
        "object": kind,
        "created": int(time.time()),
        "model": answer.model or ask.model,
        "system_fingerprint": None,
    }


def _usage(answer: Answer) -> dict[str, object]:
    usage: dict[str, object] = {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    if answer.cached_tokens or answer.reasoning_tokens:  # older and compatible servers do without the details
        usage["prompt_tokens_details"] = {"cached_tokens": answer.cached_tokens}
        usage["completion_tokens_details"] = {"reasoning_tokens": answer.reasoning_tokens}
    return usage


def _logprobs(answer: Answer, tokens: list[str], top: int) -> dict[str, object]:
    measured = [(token, answer.logprob_of(token)) for token in tokens]
    content = [
        {**_token(token, value), "top_logprobs": [_token(*other) for other in alternatives(token, value, top)]}
        for token, value in measured
    ]
    return {"content": content, "refusal": None}


def _token(token: str, value: float) -> dict[str, Any]:
    return {"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "replace"))}


def _event(data: object) -> bytes:
    return b"data: %b\n\n" % encode(data)

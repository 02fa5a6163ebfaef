"""Anthropic's wire format: messages, streamed and not, and error objects.

Source of the shapes: https://docs.anthropic.com/en/api/messages, .../messages-streaming and .../errors;
of the rate-limit headers: https://docs.anthropic.com/en/api/rate-limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from semroute.testing import anthropic_checks
from semroute.testing.http11 import HttpRequest
from semroute.testing.neutral import Answer, ChatRequest, Failure, StreamEvent, encode, pieces

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
# A quota that is used up is a 400 here, told apart by its words alone.
_BROKE = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to add credits."
read = anthropic_checks.read
KEEPALIVE = b'event: ping\ndata: {"type": "ping"}\n\n'
MALFORMED_EVENT = b'event: content_block_delta\ndata: {"type": "content_block_delta", "del\n\n'


def refused(request: HttpRequest, key: str) -> Failure | None:
    """The failure where the request does not carry the key.

    The documentation asks for ``x-api-key``; Anthropic's own Python client sends the key as a bearer token (as of its
    version 2.12), so either will do.
    """
    given = request.headers.get("x-api-key")
    if given == key or (given is None and request.headers.get("authorization") == f"Bearer {key}"):
        return None
    return Failure(401, "x-api-key header is required" if given is None else "invalid x-api-key", "key")


def whole(ask: ChatRequest, answer: Answer) -> dict[str, object]:
    """A message object."""
    content: list[dict[str, object]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": "c2ln"})
    if answer.text and not answer.hollow:
        content.append({"type": "text", "text": answer.text})
    for index, call in enumerate(answer.calls):
        content.append({"type": "tool_use", "id": _call_id(ask, index), "name": call.name, "input": call.arguments})
    body = _frame(ask, answer) | {"content": content, **_stopped(answer)}
    if answer.counted:
        body["usage"] = _input_usage(answer) | _output_usage(answer)
    return body


def events(ask: ChatRequest, answer: Answer) -> Iterator[StreamEvent]:
    """The events of a streamed message."""
    start = _frame(ask, answer) | {"content": [], "stop_reason": None, "stop_sequence": None}
    if answer.counted:
        start["usage"] = _input_usage(answer) | {"output_tokens": 1}
    yield StreamEvent(_event("message_start", message=start), "frame")
    index = 0
    if answer.reasoning:
        opened: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
        yield from _block(0, opened, "thinking_delta", "thinking", pieces(answer.reasoning))
        index = 1
    if not answer.hollow and (answer.text or not answer.calls):
        yield from _block(index, {"type": "text", "text": ""}, "text_delta", "text", pieces(answer.text))
        index += 1
    for number, call in enumerate(answer.calls):
        opened = {"type": "tool_use", "id": _call_id(ask, number), "name": call.name, "input": {}}
        yield from _block(index + number, opened, "input_json_delta", "partial_json", pieces(call.text))
    usage = {"usage": _output_usage(answer)} if answer.counted else {}
    yield StreamEvent(_event("message_delta", delta=_stopped(answer), **usage), "finish")
    yield StreamEvent(_event("message_stop"), "end")


def error(failure: Failure) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and body of an error."""
    headers = {} if failure.retry_after is None else {"retry-after": str(failure.retry_after)}
    if failure.reset_s is not None:
        now = datetime.now(UTC)
        for what, limit in (("requests", 50), ("input-tokens", 30_000), ("output-tokens", 8_000)):
            closed = what == "requests"
            reset = now + timedelta(seconds=failure.reset_s if closed else 0)
            headers[f"anthropic-ratelimit-{what}-limit"] = str(limit)
            headers[f"anthropic-ratelimit-{what}-remaining"] = "0" if closed else str(limit // 2)
            headers[f"anthropic-ratelimit-{what}-reset"] = reset.isoformat(timespec="milliseconds")[:-6] + "Z"
    status = 400 if failure.reason == "quota" else failure.status
    return status, headers, _error(failure)


def error_event(failure: Failure) -> bytes:
    """An ``error`` event, which ends a stream."""
    return b"event: error\ndata: %b\n\n" % encode(_error(failure))


def _error(failure: Failure) -> dict[str, object]:
    kind, message = _KINDS.get(failure.status, "invalid_request_error"), failure.message
    if failure.reason == "quota":
        kind, message = "invalid_request_error", _BROKE
    elif failure.reason == "context_length":
        message = "prompt is too long: 210000 tokens > 200000 maximum"
    elif failure.reason == "content_filter":
        message = "Output blocked by content filtering policy"
    elif failure.status == 503:
        kind = "overloaded_error"
    elif failure.status == 200 or (failure.status >= 500 and failure.status not in _KINDS):
        kind = "api_error"
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def _frame(ask: ChatRequest, answer: Answer) -> dict[str, object]:
    return {"id": f"msg_fake{ask.serial}", "type": "message", "role": "assistant", "model": answer.model or ask.model}


def _stopped(answer: Answer) -> dict[str, object]:
    if answer.refused:
        details = {"type": "refusal", "category": None, "explanation": answer.text}
        return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    reason = "stop_sequence" if answer.matched is not None else _STOPS[answer.finish]
    return {"stop_reason": reason, "stop_sequence": answer.matched}


def _input_usage(answer: Answer) -> dict[str, object]:
    """Anthropic counts what went through the cache apart from the other input."""
    return {
        "input_tokens": answer.input_tokens - answer.cached_tokens - answer.cache_write_tokens,
        "cache_creation_input_tokens": answer.cache_write_tokens,
        "cache_read_input_tokens": answer.cached_tokens,
    }


def _output_usage(answer: Answer) -> dict[str, object]:
    usage: dict[str, object] = {"output_tokens": answer.output_tokens}
    if answer.reasoning_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": answer.reasoning_tokens}
    return usage


def _call_id(ask: ChatRequest, index: int) -> str:
    return f"toolu_fake{ask.serial}_{index}"


def _block(index: int, opened: dict[str, object], kind: str, name: str, parts: list[str]) -> Iterator[StreamEvent]:
    yield StreamEvent(_event("content_block_start", index=index, content_block=opened), "frame")
    if index == 0:
        yield StreamEvent(_event("ping"), "frame")
    for part in parts:
        yield StreamEvent(_event("content_block_delta", index=index, delta={"type": kind, name: part}), "piece")
    yield StreamEvent(_event("content_block_stop", index=index), "frame")


def _event(kind: str, **data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **data}))

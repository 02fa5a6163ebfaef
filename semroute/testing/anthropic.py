"""Anthropic Messages: request checks and wire format.

:func:`check_request` turns a request body into a :class:`~semroute.testing.replies.ChatRequest`.

Source: https://docs.anthropic.com/en/api/messages and https://docs.anthropic.com/en/api/versioning
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from semroute.testing.answers import names, need, texts, tool_name, unknown, whole_number, within
from semroute.testing.http import HttpRequest
from semroute.testing.replies import Answer, ChatRequest, Failure, StreamEvent, encode, pieces, words

_KNOWN = names(
    """
    max_tokens messages model cache_control container context_management diagnostics inference_geo mcp_servers
    metadata output_config output_format service_tier speed stop_sequences stream system temperature thinking
    tool_choice tools top_k top_p user_profile_id
    """
)
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SIGNATURE = "c2ln"
_THINKING = ("thinking", "redacted_thinking")
_OTHER_BLOCKS = ("thinking", "redacted_thinking", "document", "search_result")


def check_request(request: HttpRequest, body: Any, serial: int) -> ChatRequest:
    """Check a request and return its content.

    Raises:
        RefusedError: Anthropic would reject it too.
    """
    need(request.headers.get("anthropic-version"), "anthropic-version: header is required")
    need(isinstance(body, dict), "the request body is not valid JSON")
    extra = unknown(body, _KNOWN)
    need(extra is None, f"{extra}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        need(body.get(name) is not None, f"{name}: Field required")
    model, messages, stream = body["model"], body["messages"], body.get("stream") or False
    need(isinstance(model, str) and model, "model: Input should be a valid string")
    need(whole_number(body["max_tokens"], 1), "max_tokens: Input should be greater than or equal to 1")
    need(isinstance(messages, list) and messages, "messages: at least one message is required")
    need(isinstance(stream, bool), "stream: Input should be a valid boolean")
    for name in ("temperature", "top_p"):
        need(body.get(name) is None or within(body[name], 0, 1), f"{name}: range: 0..1")
    _tuning(body)
    said = _messages(messages)
    _check_loop(body.get("thinking"), messages)
    system = _system(body.get("system"))
    return ChatRequest(
        model=model,
        text=next((text for role, text in reversed(said) if role == "user"), ""),
        input_tokens=words(system) + sum(words(text) for _, text in said),
        stream=stream,
        max_tokens=body["max_tokens"],
        stop=_stop(body.get("stop_sequences")),
        call=_call(body),
        schema=_schema(body),
        serial=serial,
    )


def _tuning(body: Mapping[str, Any]) -> None:
    need(body.get("top_k") is None or whole_number(body["top_k"], 0), "top_k: Input should be a whole number")
    need(body.get("service_tier") in (None, "auto", "standard_only"), "service_tier: must be auto or standard_only")
    effort = (body.get("output_config") or {}).get("effort") if isinstance(body.get("output_config"), dict) else None
    known = (None, "low", "medium", "high", "xhigh", "max")
    need(effort in known, f"output_config.effort: Input should be one of {known[1:]}")
    metadata = body.get("metadata")
    good = metadata is None or (isinstance(metadata, dict) and set(metadata) <= {"user_id"})
    need(good, "metadata: Extra inputs are not permitted")
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    need(kind in ("enabled", "disabled", "adaptive"), "thinking.type: must be enabled, disabled or adaptive")
    if kind == "disabled":
        return
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        need(
            whole_number(budget, 1024), "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        )
        need(body["max_tokens"] > budget, "`max_tokens` must be greater than `thinking.budget_tokens`")
    need(body.get("temperature") in (None, 1), "`temperature` may only be set to 1 when thinking is enabled")
    need(body.get("top_k") is None, "`top_k` must be unset when thinking is enabled")
    choice = body.get("tool_choice") or {}
    forced = choice.get("type") in ("any", "tool")
    need(not forced, "Thinking may not be enabled when tool_choice forces tool use.")


def _check_loop(thinking: Any, messages: list[Any]) -> None:
    """Require reasoning before a tool call whose result comes last.

    Thinking models do.
    """
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled" or len(messages) < 2:
        return
    kinds = [
        [block.get("type") for block in message["content"]] if isinstance(message["content"], list) else ["text"]
        for message in messages[-2:]
    ]
    if "tool_result" in kinds[1]:
        place = f"messages.{len(messages) - 2}.content.0.type"
        first = kinds[0][0]
        need(first in _THINKING, f"{place}: Expected `thinking` or `redacted_thinking`, but found `{first}`")


def _system(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    blocks = isinstance(value, list) and all(isinstance(b, dict) and b.get("type") == "text" for b in value)
    need(blocks, "system: Input should be a text or a list of text blocks")
    filled = all(str(block.get("text", "")).strip() for block in value)
    need(filled, "system: text content blocks must contain non-whitespace text")
    return " ".join(str(block.get("text", "")) for block in value)


def _messages(messages: list[Any]) -> list[tuple[str, str]]:
    """Return the role and text of each message."""
    open_calls: set[str] = set()
    said = []
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        need(isinstance(message, dict), f"{where}: Input should be an object")
        need(unknown(message, ("role", "content")) is None, f"{where}: Extra inputs are not permitted")
        role, content = message.get("role"), message.get("content")
        need(role in ("user", "assistant", "system"), f'{where}.role: must be "user", "assistant" or "system"')
        need(place or role == "user", 'messages: the first message must have the role "user"; system is a field')
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        need(isinstance(blocks, list) and blocks, f"{where}.content: needs a text or at least one block")
        if role == "system":  # in mid-conversation, which newer models take
            for number, block in enumerate(blocks):
                is_text = isinstance(block, dict) and block.get("type") == "text"
                need(is_text, f"{where}.content.{number}: a system message has text blocks only")
            continue
        results = [b for b in blocks if isinstance(b, dict) and b.get("type") == "tool_result"]
        answered = {str(result.get("tool_use_id")) for result in results}
        if role == "user":
            need(answered <= open_calls, f"{where}: a tool_result has no tool_use in the message before")
            need(open_calls <= answered, f"{where}: tool_use ids were found without tool_result blocks after them")
        found = [_check_block(block, f"{where}.content.{number}", role) for number, block in enumerate(blocks)]
        open_calls = {b["id"] for b in blocks if b.get("type") == "tool_use"}
        said.append((str(role), " ".join(text for text in found if text)))
    if said[-1][0] == "assistant":
        last = messages[-1]["content"][-1].get("text") if isinstance(messages[-1]["content"], list) else said[-1][1]
        trailing = isinstance(last, str) and last != last.rstrip()
        need(not trailing, "messages: final assistant content cannot end with trailing whitespace")
    return said


def _check_block(block: Any, where: str, role: object) -> str:
    """Check a content block and return its text."""
    need(isinstance(block, dict), f"{where}: Input should be an object")
    kind = block.get("type")
    if kind == "text":
        need(isinstance(block.get("text"), str) and block["text"], f"{where}: text content blocks must be non-empty")
        need(block["text"].strip(), f"{where}: text content blocks must contain non-whitespace text")
        return str(block["text"])
    if kind == "image":
        need(role == "user" and _is_source(block.get("source")), f"{where}.source: not an image's base64 data or url")
        return ""
    if kind == "tool_use":
        good = role == "assistant" and isinstance(block.get("input"), dict) and isinstance(block.get("id"), str)
        need(good and tool_name(block.get("name")), f"{where}: tool_use needs id, name and input, by the assistant")
        return ""
    if kind == "tool_result":
        need(role == "user", f"{where}: tool_result blocks belong in user messages")
        result = block.get("content")
        need(result is None or isinstance(result, str | list), f"{where}.content: Input should be a text or blocks")
        if isinstance(result, str):
            return result
        texts_within = [part for part in result or () if isinstance(part, dict) and part.get("type") == "text"]
        filled = all(str(part.get("text", "")).strip() for part in texts_within)
        need(filled, f"{where}.content: text content blocks must contain non-whitespace text")
        return " ".join(str(part.get("text", "")) for part in result or () if isinstance(part, dict))
    if kind == "thinking":
        signed = isinstance(block.get("signature"), str) and block["signature"]
        need(role == "assistant" and signed, f"{where}: Invalid `signature` in `thinking` block")
    need(kind in _OTHER_BLOCKS, f"{where}: Input tag {kind!r} does not match any of the expected tags")
    return ""


def _is_source(source: Any) -> bool:
    if not isinstance(source, dict):
        return False
    if source.get("type") == "base64":
        return source.get("media_type") in _IMAGES and isinstance(source.get("data"), str)
    return source.get("type") == "url" and isinstance(source.get("url"), str)


def _stop(value: Any) -> tuple[str, ...]:
    need(value is None or texts(value), "stop_sequences: Input should be a list of texts")
    need(all(text.strip() for text in value or ()), "stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(value or ())


def _call(body: Mapping[str, Any]) -> tuple[str, Mapping[str, object]] | None:
    tools, choice = body.get("tools"), body.get("tool_choice")
    need(tools is None or isinstance(tools, list), "tools: Input should be a list")
    schemas: dict[str, Mapping[str, object]] = {}
    for place, tool in enumerate(tools or ()):
        schema = tool.get("input_schema") if isinstance(tool, dict) else None
        good = isinstance(schema, dict) and schema.get("type") == "object" and tool_name(tool.get("name"))
        need(good, f"tools.{place}.custom: needs a name, and an input_schema of the type object")
        schemas[tool["name"]] = schema or {}
    if choice is None:
        return None
    kind = choice.get("type") if isinstance(choice, dict) else None
    need(kind in ("auto", "any", "tool", "none"), "tool_choice.type: must be auto, any, tool or none")
    need(schemas or kind == "none", "tool_choice: may only be specified while providing tools")
    if kind in ("auto", "none"):
        return None
    name = next(iter(schemas)) if kind == "any" else choice.get("name")
    need(tool_name(name) and name in schemas, f"tool_choice: Tool {name!r} not found in provided tools")
    return name, schemas[name]


def _schema(body: Mapping[str, Any]) -> Mapping[str, object] | None:
    config = body.get("output_config")
    need(config is None or isinstance(config, dict), "output_config: Input should be an object")
    wanted = (config or {}).get("format") or body.get("output_format")
    if wanted is None:
        return None
    good = isinstance(wanted, dict) and wanted.get("type") == "json_schema" and isinstance(wanted.get("schema"), dict)
    need(good, "output_config.format: needs the type json_schema and a schema")
    schema: Mapping[str, object] = wanted["schema"]
    return schema


# Wire format: messages, streamed and not, and error objects.
#
# Source of the shapes: https://docs.anthropic.com/en/api/messages, .../messages-streaming and .../errors;
# of the rate-limit headers: https://docs.anthropic.com/en/api/rate-limits.

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
# An exhausted quota is a 400 here, distinguished by its message alone.
_BROKE = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to add credits."
read = check_request
KEEPALIVE = b'event: ping\ndata: {"type": "ping"}\n\n'
MALFORMED_EVENT = b'event: content_block_delta\ndata: {"type": "content_block_delta", "del\n\n'


def refused(request: HttpRequest, key: str) -> Failure | None:
    """Return the failure of a request without the key, else None.

    The documentation asks for ``x-api-key``; Anthropic's own Python client sends the key as a bearer token (as of its
    version 2.12), so either will do.
    """
    given = request.headers.get("x-api-key")
    if given == key or (given is None and request.headers.get("authorization") == f"Bearer {key}"):
        return None
    return Failure(401, "x-api-key header is required" if given is None else "invalid x-api-key", "key")


def whole(ask: ChatRequest, answer: Answer) -> dict[str, object]:
    """Return a message object."""
    content: list[dict[str, object]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": _SIGNATURE})
    if answer.text and not answer.hollow:
        content.append({"type": "text", "text": answer.text})
    for index, call in enumerate(answer.calls):
        content.append({"type": "tool_use", "id": _call_id(ask, index), "name": call.name, "input": call.arguments})
    body = _frame(ask, answer) | {"content": content, **_stopped(answer)}
    if answer.counted:
        body["usage"] = _input_usage(answer) | _output_usage(answer)
    return body


def events(ask: ChatRequest, answer: Answer) -> Iterator[StreamEvent]:
    """Yield the events of a streamed message."""
    start = _frame(ask, answer) | {"content": [], "stop_reason": None, "stop_sequence": None}
    if answer.counted:
        start["usage"] = _input_usage(answer) | {"output_tokens": 1}
    yield StreamEvent(_event("message_start", message=start), "frame")
    index = 0
    if answer.reasoning:
        opened: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
        yield from _block(0, opened, "thinking_delta", "thinking", pieces(answer.reasoning), signature=_SIGNATURE)
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
    """Return the status, headers and body of an error."""
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
    """Return an ``error`` event, which ends a stream."""
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
    """Return the input usage, with cached input counted apart."""
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


def _block(
    index: int, opened: dict[str, object], kind: str, name: str, parts: list[str], *, signature: str = ""
) -> Iterator[StreamEvent]:
    yield StreamEvent(_event("content_block_start", index=index, content_block=opened), "frame")
    if index == 0:
        yield StreamEvent(_event("ping"), "frame")
    for part in parts:
        yield StreamEvent(_event("content_block_delta", index=index, delta={"type": kind, name: part}), "piece")
    if signature:
        signed = {"type": "signature_delta", "signature": signature}
        yield StreamEvent(_event("content_block_delta", index=index, delta=signed), "frame")
    yield StreamEvent(_event("content_block_stop", index=index), "frame")


def _event(kind: str, **data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **data}))

"""OpenAI chat completions: request checks and wire format.

:func:`check_request` turns a request body into a :class:`~semroute.testing.replies.ChatRequest`.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from semroute.testing.answers import names, need, texts, tool_name, unknown, whole_number, within
from semroute.testing.http import HttpRequest
from semroute.testing.replies import (
    Answer,
    ChatRequest,
    Failure,
    StreamEvent,
    alternatives,
    encode,
    numbered,
    pieces,
    words,
)

_KNOWN = names(
    """
    messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
    max_tokens metadata modalities moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key
    prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed
    service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity
    web_search_options
    """
)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_OF_AN_ASSISTANT = names("role content name refusal audio function_call tool_calls")
_OF_A_CALL = names("id type function custom")
_ROLES = ("developer", "system", "user", "assistant", "tool", "function")


def check_request(request: HttpRequest, body: Any, serial: int) -> ChatRequest:
    """Check a request and return its content.

    Raises:
        RefusedError: OpenAI would reject it too.
    """
    need(isinstance(body, dict), "the body is not a JSON object")
    extra = unknown(body, _KNOWN)
    need(extra is None, f"unrecognized request argument supplied: {extra}", extra)
    model, messages = body.get("model"), body.get("messages")
    need(isinstance(model, str) and model, "you must provide a model parameter", "model")
    need(
        isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages),
        "messages must be a list of at least one message",
        "messages",
    )
    said = _messages(messages)
    _numbers(body)
    stream, options = body.get("stream") or False, body.get("stream_options")
    need(isinstance(stream, bool), "stream must be true or false", "stream")
    need(options is None or stream, "stream_options is only allowed when stream is enabled", "stream_options")
    return ChatRequest(
        model=str(model),
        text=next((text for role, text in reversed(said) if role == "user"), ""),
        input_tokens=sum(words(text) for _, text in said),
        stream=stream,
        counted=isinstance(options, dict) and bool(options.get("include_usage")),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=_stop(body.get("stop")),
        call=_call(body),
        schema=_schema(body.get("response_format"), said),
        top_logprobs=_check_logprobs(body),
        answers=body.get("n") or 1,
        serial=serial,
    )


def _messages(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the role and text of each message."""
    open_calls: set[str] = set()
    said = []
    for place, message in enumerate(messages):
        param, role, content = f"messages[{place}]", message.get("role"), message.get("content")
        need(role in _ROLES, f"{param}.role must be one of {', '.join(_ROLES)}", f"{param}.role")
        calls = message.get("tool_calls")
        if role == "assistant":
            # As Groq, Mistral and Cerebras do: OpenAI itself accepts some of these.
            extra = unknown(message, _OF_AN_ASSISTANT)
            need(extra is None, f"'{param}' : property '{extra}' is unsupported", param)
            need(content is not None or calls or message.get("refusal"), f"{param}.content must not be null", param)
        else:
            need(isinstance(content, str | list), f"{param}.content must be a text or a list of parts", param)
        if role == "tool":
            answered = message.get("tool_call_id")
            need(
                isinstance(answered, str) and answered in open_calls,
                f"{param}: a tool message must answer a preceding message's tool_calls",
                param,
            )
        elif calls:
            need(isinstance(calls, list), f"{param}.tool_calls must be a list", param)
            open_calls |= {_tool_call(call, f"{param}.tool_calls") for call in calls}
        said.append((str(role), _text(content, param)))
    return said


def _tool_call(call: Any, param: str) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    extra = unknown(call, _OF_A_CALL) if isinstance(call, dict) else None
    need(extra is None, f"'{param}' : property '{extra}' is unsupported", param)
    need(
        isinstance(function, dict)
        and isinstance(call.get("id"), str)
        and call.get("type") == "function"
        and isinstance(function.get("arguments"), str),
        f"{param}: each call needs an id, the type function, and a function with a name and arguments as text",
        param,
    )
    return str(call["id"])


def _text(content: object, param: str) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    found = []
    for part in content:
        need(isinstance(part, dict), f"{param}.content: a part must be an object", param)
        kind = part.get("type")
        if kind == "text":
            need(isinstance(part.get("text"), str), f"{param}.content: a text part needs a text", param)
            found.append(part["text"])
        elif kind == "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else None
            good = isinstance(url, str) and url.startswith(("http://", "https://", "data:image/"))
            need(good, f"{param}.content: image_url.url must be an address or a data: URL of an image", param)
        else:
            need(kind in ("input_audio", "file", "refusal"), f"{param}.content: unknown type of part {kind!r}", param)
    return " ".join(found)


def _numbers(body: Mapping[str, Any]) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        need(body.get(name) is None or whole_number(body[name], 1), f"{name} must be a whole number above 0", name)
    for name, low, high in (
        ("temperature", 0, 2),
        ("top_p", 0, 1),
        ("frequency_penalty", -2, 2),
        ("presence_penalty", -2, 2),
    ):
        need(body.get(name) is None or within(body[name], low, high), f"{name} must be from {low} to {high}", name)
    need(body.get("n") is None or whole_number(body["n"], 1, 128), "n must be a whole number from 1 to 128", "n")
    need(body.get("seed") is None or whole_number(body["seed"], -(2**63)), "seed must be a whole number", "seed")
    need(body.get("reasoning_effort") in (None, *_EFFORTS), "reasoning_effort must be one of its values")
    need(body.get("verbosity") in (None, "low", "medium", "high"), "verbosity must be low, medium or high", "verbosity")
    parallel = body.get("parallel_tool_calls")
    need(parallel is None or body.get("tools"), "parallel_tool_calls is only allowed when tools are specified")


def _stop(value: object) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return () if value is None else (value,)
    need(texts(value) and isinstance(value, list) and len(value) <= 4, "stop must be at most 4 texts", "stop")
    return tuple(str(text) for text in value) if isinstance(value, list) else ()


def _call(body: Mapping[str, Any]) -> tuple[str, Mapping[str, object]] | None:
    tools, choice = body.get("tools"), body.get("tool_choice")
    need(tools is None or isinstance(tools, list), "tools must be a list", "tools")
    need(tools or choice is None, "tool_choice is only allowed when tools are specified", "tool_choice")
    functions: dict[str, Mapping[str, object]] = {}
    for place, tool in enumerate(tools or ()):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        good = isinstance(function, dict) and tool_name(function.get("name"))
        need(good, f"tools[{place}] needs the type function, and a function with a name", f"tools[{place}]")
        parameters = function.get("parameters") if isinstance(function, dict) else None
        need(
            parameters is None or isinstance(parameters, dict), f"tools[{place}]: parameters must be a schema", "tools"
        )
        functions[function["name"]] = parameters or {"type": "object"}  # type: ignore[index]  # checked above
    if choice in (None, "auto", "none"):
        return None
    if choice == "required":
        return next(iter(functions.items()))
    chosen = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = chosen.get("name") if isinstance(chosen, dict) else None
    need(
        tool_name(name) and name in functions,
        "tool_choice must be none, auto, required, or name one of the tools",
        "tool_choice",
    )
    return str(name), functions[str(name)]


def _schema(wanted: Any, said: list[tuple[str, str]]) -> Mapping[str, object] | None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        told = any("json" in text.lower() for _, text in said)
        need(told, "messages must contain the word json to use response_format json_object", "messages")
        return {"type": "object"}
    need(kind == "json_schema", "response_format.type must be text, json_object or json_schema", "response_format.type")
    named = wanted.get("json_schema")
    good = isinstance(named, dict) and tool_name(named.get("name")) and isinstance(named.get("schema"), dict)
    need(good, "response_format.json_schema needs a name and a schema", "response_format.json_schema")
    schema: Mapping[str, object] = named["schema"]
    return schema


def _check_logprobs(body: Mapping[str, Any]) -> int | None:
    wanted, top = body.get("logprobs") or False, body.get("top_logprobs")
    need(isinstance(wanted, bool), "logprobs must be true or false", "logprobs")
    need(top is None or wanted, "top_logprobs is only allowed when logprobs is true", "top_logprobs")
    need(top is None or whole_number(top, 0, 20), "top_logprobs must be a whole number from 0 to 20", "top_logprobs")
    return (top or 0) if wanted else None


# Wire format: chat completions, streamed and not, and error objects.
#
# Source of the shapes: https://platform.openai.com/docs/api-reference/chat and .../guides/error-codes;
# of the rate-limit headers: https://platform.openai.com/docs/guides/rate-limits;
# of the filtered prompt: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter.

_CODES = {"key": "invalid_api_key", "context_length": "context_length_exceeded", "content_filter": "content_filter"}
read = check_request
KEEPALIVE = b": keep-alive\n\n"
MALFORMED_EVENT = b'data: {"choices": [{"delta": {"con\n\n'


def refused(request: HttpRequest, key: str) -> Failure | None:
    """Return the failure of a request without the key, else None.

    The key is a bearer token, or Azure's ``api-key``.
    """
    if request.headers.get("authorization") == f"Bearer {key}" or request.headers.get("api-key") == key:
        return None
    return Failure(401, "incorrect API key provided", "key")


def whole(ask: ChatRequest, answer: Answer) -> dict[str, object]:
    """Return a chat completion object."""
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
    """Yield the chunks of a streamed chat completion, and ``[DONE]``."""
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
    """Yield the pieces of a tool call before its arguments."""
    if loose:
        middle = len(name) // 2
        yield {"index": 0, "type": "function", "function": {"name": name[:middle], "arguments": ""}}
        yield {"index": 0, "function": {"name": name[middle:], "arguments": ""}}
    else:
        function = {"name": name, "arguments": ""}
        yield {"index": index, "id": f"call_{ask.serial}_{index}", "type": "function", "function": function}


def error(failure: Failure) -> tuple[int, dict[str, str], dict[str, object]]:
    """Return the status, headers and body of an error."""
    headers = {} if failure.retry_after is None else {"retry-after": str(failure.retry_after)}
    if failure.reset_s is not None:
        for what, limit in (("requests", 500), ("tokens", 200_000)):
            headers[f"x-ratelimit-limit-{what}"] = str(limit)
            headers[f"x-ratelimit-remaining-{what}"] = "0" if what == "requests" else str(limit // 2)
            headers[f"x-ratelimit-reset-{what}"] = duration(failure.reset_s if what == "requests" else 0.006)
    return failure.status, headers, _error(failure)


def error_event(failure: Failure) -> bytes:
    """Return an error for the middle of a stream.

    As compatible servers send it.
    """
    return _event(_error(failure))


def duration(seconds: float) -> str:
    """Format a duration as OpenAI does: ``6m0s``, ``1.5s``, ``20ms``."""
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

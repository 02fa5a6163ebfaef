"""OpenAI Responses: request checks and wire format.

Nothing is stored, as with ``store: false``: earlier responses and their items are not known.

Source: https://platform.openai.com/docs/api-reference/responses/create, .../responses-streaming
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from semroute.testing import openai
from semroute.testing.answers import RefusedError, names, need, tool_name, unknown, whole_number, within
from semroute.testing.http import HttpRequest
from semroute.testing.replies import Answer, ChatRequest, Failure, StreamEvent, alternatives, encode, pieces, words

_KNOWN = names(
    """
    background client_metadata context_management conversation image include input instructions max_output_tokens
    max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key
    prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options
    temperature text tool_choice tools top_logprobs top_p truncation user
    """
)
_ROLES = ("user", "assistant", "system", "developer")
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_HOSTED = names("web_search web_search_preview file_search code_interpreter mcp image_generation tool_search namespace")
_MIN_OUTPUT_TOKENS = 16
SEALED = "gAAAA"
"""Beginning of the encrypted content that this server takes for its own."""

KEEPALIVE = b": keep-alive\n\n"
MALFORMED_EVENT = b'event: response.output_text.delta\ndata: {"type": "response.outp\n\n'
refused = openai.refused


def read(request: HttpRequest, body: Any, serial: int) -> ChatRequest:
    """Check a request and return its content.

    Raises:
        RefusedError: OpenAI would reject it too.
    """
    need(isinstance(body, dict), "the body is not a JSON object")
    extra = unknown(body, _KNOWN)
    need(extra is None, f"Unknown parameter: '{extra}'.", extra)
    model, stream = body.get("model"), body.get("stream") or False
    need(isinstance(model, str) and model, "you must provide a model parameter", "model")
    need(isinstance(stream, bool), "stream must be true or false", "stream")
    need(body.get("stream_options") is None or stream, "stream_options needs stream", "stream_options")
    known = body.get("previous_response_id")
    if known is not None:
        message = f"Previous response with id '{known}' not found."
        raise RefusedError(Failure(400, message, code="previous_response_not_found", param="previous_response_id"))
    said = _input(body.get("input"))
    instructions = body.get("instructions")
    need(instructions is None or isinstance(instructions, str), "instructions must be a text", "instructions")
    _numbers(body)
    include = body.get("include") or []
    return ChatRequest(
        model=str(model),
        text=next((text for role, text in reversed(said) if role == "user"), ""),
        input_tokens=sum(words(text) for _, text in said) + words(instructions or ""),
        stream=stream,
        max_tokens=body.get("max_output_tokens"),
        call=_call(body),
        schema=_schema(body.get("text")),
        top_logprobs=(body.get("top_logprobs") or 0) if "message.output_text.logprobs" in include else None,
        serial=serial,
        seals="reasoning.encrypted_content" in include,
    )


def _input(given: Any) -> list[tuple[str, str]]:
    """Return the role and text of each message."""
    if isinstance(given, str):
        return [("user", given)]
    need(isinstance(given, list) and given, "input must be a text or a list of at least one item", "input")
    open_calls: set[str] = set()
    said = []
    for place, item in enumerate(given):
        param = f"input[{place}]"
        need(isinstance(item, dict), f"{param} must be an object", param)
        kind = item.get("type", "message")
        if kind == "message":
            need(item.get("role") in _ROLES, f"{param}.role must be one of {', '.join(_ROLES)}", f"{param}.role")
            said.append((item["role"], _text(item.get("content"), param, is_answer=item["role"] == "assistant")))
        elif kind in _CALLS:
            good = all(isinstance(item.get(name), str) for name in ("call_id", "name", _CALLS[kind]))
            need(good, f"{param}: a call needs a call_id, a name and {_CALLS[kind]}", param)
            open_calls.add(item["call_id"])
        elif kind in ("function_call_output", "custom_tool_call_output"):
            call = item.get("call_id")
            need(call in open_calls, f"No tool call found for function call output with call_id {call}.", param)
            said.append(("tool", _text(item.get("output"), param)))
        elif kind in ("reasoning", "compaction"):
            _sealed(item, param)
        else:
            need(isinstance(kind, str) and kind.endswith(("_call", "_list_tools")), f"{param}: unknown {kind!r}", param)
    return said


def _sealed(item: Mapping[str, Any], param: str) -> None:
    sealed, id = item.get("encrypted_content"), item.get("id")
    if sealed is None:
        message = f"Item with id '{id}' not found. Items are not persisted when `store` is set to false."
        raise RefusedError(Failure(404, message, param="input"))
    if not isinstance(sealed, str) or not sealed.startswith(SEALED):
        message = f"The encrypted content of item {id} could not be verified."
        raise RefusedError(Failure(400, message, code="invalid_encrypted_content", param=param))


def _text(content: Any, param: str, *, is_answer: bool = False) -> str:
    if isinstance(content, str):
        return content
    need(isinstance(content, list), f"{param}.content must be a text or a list of parts", param)
    own = ("output_text", "refusal") if is_answer else ("input_text", "input_image", "input_file")
    found = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        need(kind in own, f"{param}.content: unknown type of part {kind!r}; supported are {', '.join(own)}", param)
        if kind == "input_image":
            url = part.get("image_url")
            good = part.get("file_id") or (isinstance(url, str) and url.startswith(("http", "data:image/")))
            need(good, f"{param}.content: image_url must be an address or a data: URL of an image", param)
        elif kind in ("input_text", "output_text"):
            need(isinstance(part.get("text"), str), f"{param}.content: a text part needs a text", param)
            found.append(part["text"])
    return " ".join(found)


def _numbers(body: Mapping[str, Any]) -> None:
    most, top = body.get("max_output_tokens"), body.get("top_logprobs")
    least = f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {_MIN_OUTPUT_TOKENS}."
    need(most is None or whole_number(most, _MIN_OUTPUT_TOKENS), least, "max_output_tokens")
    for name, high in (("temperature", 2), ("top_p", 1)):
        need(body.get(name) is None or within(body[name], 0, high), f"{name} must be from 0 to {high}", name)
    need(top is None or whole_number(top, 0, 20), "top_logprobs must be a whole number from 0 to 20", "top_logprobs")
    for name in ("reasoning", "text", "metadata"):
        need(isinstance(body.get(name) or {}, dict), f"{name} must be an object", name)


def _call(body: Mapping[str, Any]) -> tuple[str, Mapping[str, object]] | None:
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    need(isinstance(tools, list), "tools must be a list", "tools")
    functions: dict[str, Mapping[str, object]] = {}
    for place, tool in enumerate(tools):
        param, kind = f"tools[{place}]", tool.get("type") if isinstance(tool, dict) else None
        if kind in _HOSTED or kind == "custom":
            continue
        good = kind == "function" and tool_name(tool.get("name"))
        need(good, f"Missing required parameter: '{param}.name'.", f"{param}.name")
        need(isinstance(tool.get("parameters") or {}, dict), f"{param}.parameters must be a schema", param)
        functions[tool["name"]] = tool.get("parameters") or {"type": "object"}
    if not isinstance(choice, dict):
        need(choice in (None, "auto", "none", "required"), "tool_choice must be one of its values", "tool_choice")
        return next(iter(functions.items()), None) if choice == "required" else None
    if choice.get("type") != "function":
        return None
    name = choice.get("name")
    need(name in functions, f"Tool choice 'function' not found in 'tools' parameter: {name}.", "tool_choice")
    return str(name), functions[str(name)]


def _schema(text: Any) -> Mapping[str, object] | None:
    wanted = (text or {}).get("format") or {}
    need(isinstance(wanted, dict), "text.format must be an object", "text.format")
    kind = wanted.get("type", "text")
    if kind in ("text", "json_object"):
        return None if kind == "text" else {"type": "object"}
    good = kind == "json_schema" and tool_name(wanted.get("name")) and isinstance(wanted.get("schema"), dict)
    need(good, "Missing required parameter: text.format needs a name and a schema", "text.format")
    schema: Mapping[str, object] = wanted["schema"]
    return schema


# Wire format: responses, streamed and not, and error objects.


def whole(ask: ChatRequest, answer: Answer) -> dict[str, object]:
    """Return a response object."""
    items = [] if answer.hollow else [item for item, _ in _items(ask, answer)]
    return _response(ask, answer, items, _status(answer))


def _status(answer: Answer) -> str:
    return "incomplete" if answer.finish in ("length", "content_filter") else "completed"


def _response(
    ask: ChatRequest, answer: Answer, output: Sequence[Mapping[str, object]], status: str
) -> dict[str, object]:
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(answer.finish) if status == "incomplete" else None
    body: dict[str, object] = {
        "id": f"resp_fake{ask.serial}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "instructions": None,
        "max_output_tokens": ask.max_tokens,
        "model": answer.model or ask.model,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        "metadata": {},
    }
    return body | {"usage": _usage(answer)} if answer.counted and status != "in_progress" else body


def _usage(answer: Answer) -> dict[str, object]:
    return {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {
            "cached_tokens": answer.cached_tokens,
            "cache_write_tokens": answer.cache_write_tokens,
        },
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }


def _items(ask: ChatRequest, answer: Answer) -> Iterator[tuple[dict[str, object], str]]:
    """Yield the items of an answer, each with its streamed text."""
    serial = ask.serial
    if answer.reasoning:
        item: dict[str, object] = {"type": "reasoning", "id": f"rs_{serial}"}
        item["summary"] = [{"type": "summary_text", "text": answer.reasoning}]
        yield item | ({"encrypted_content": f"{SEALED}{serial}"} if ask.seals else {}), answer.reasoning
    if answer.text or not answer.calls:
        logprobs = [] if ask.top_logprobs is None else _logprobs(answer, pieces(answer.text), ask.top_logprobs)
        part: dict[str, object] = {"type": "refusal", "refusal": answer.text}
        if not answer.refused:
            part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": logprobs}
        message = {"type": "message", "id": f"msg_{serial}", "status": "completed", "role": "assistant"}
        yield {**message, "content": [part]}, answer.text
    for number, call in enumerate(answer.calls):
        named = {"call_id": f"call_{serial}_{number}", "name": call.name, "arguments": call.text}
        yield {"type": "function_call", "id": f"fc_{serial}_{number}", "status": "completed", **named}, call.text


def _logprobs(answer: Answer, tokens: Sequence[str], top: int) -> list[dict[str, Any]]:
    found = []
    for token in tokens:
        value = answer.logprob_of(token)
        others = [_token(*other) for other in alternatives(token, value, top)]
        found.append({**_token(token, value), "top_logprobs": others})
    return found


def _token(token: str, value: float) -> dict[str, Any]:
    return {"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "replace"))}


def events(ask: ChatRequest, answer: Answer) -> Iterator[StreamEvent]:
    """Yield the events of a streamed response, numbered."""
    for number, (kind, fields, role) in enumerate(_unnumbered(ask, answer)):
        yield StreamEvent(_event(kind, {"sequence_number": number, **fields}), role)


def _unnumbered(ask: ChatRequest, answer: Answer) -> Iterator[tuple[str, dict[str, object], Any]]:
    begun = _response(ask, answer, (), "in_progress")
    yield "response.created", {"response": begun}, "frame"
    yield "response.in_progress", {"response": begun}, "frame"
    items = [] if answer.hollow else list(_items(ask, answer))
    for place, (item, text) in enumerate(items):
        yield from _item_events(ask, answer, place, item, text)
    status = _status(answer)
    yield f"response.{status}", {"response": _response(ask, answer, [item for item, _ in items], status)}, "finish"


def _item_events(
    ask: ChatRequest, answer: Answer, place: int, item: Mapping[str, Any], text: str
) -> Iterator[tuple[str, dict[str, object], Any]]:
    where: dict[str, object] = {"item_id": item["id"], "output_index": place}
    empty = {"summary": [], "content": [], "arguments": ""}
    opened = {name: empty.get(name, value) for name, value in item.items() if name != "encrypted_content"}
    if "status" in opened:
        opened["status"] = "in_progress"
    yield "response.output_item.added", {"output_index": place, "item": opened}, "frame"
    name, field, part, key = _terms(item)
    inside = {} if key is None else {key: 0}
    if part is not None:
        blank = {**part, field: "", **({"logprobs": []} if "logprobs" in part else {})}
        frame = "response.content_part" if key == "content_index" else "response.reasoning_summary_part"
        yield f"{frame}.added", {**where, **inside, "part": blank}, "frame"
    for piece in pieces(text):
        measured: dict[str, object] = {}
        if name == "output_text":
            top = ask.top_logprobs
            measured["logprobs"] = [] if top is None else _logprobs(answer, [piece], top)
        yield f"response.{name}.delta", {**where, **inside, "delta": piece, **measured}, "piece"
    logprobs = {"logprobs": part["logprobs"]} if part is not None and "logprobs" in part else {}
    yield f"response.{name}.done", {**where, **inside, field: text, **logprobs}, "frame"
    if part is not None:
        yield f"{frame}.done", {**where, **inside, "part": part}, "frame"
    yield "response.output_item.done", {"output_index": place, "item": item}, "frame"


def _terms(item: Mapping[str, Any]) -> tuple[str, str, dict[str, Any] | None, str | None]:
    """Return the names of an item's pieces, text field, part and index."""
    if item["type"] == "reasoning":
        return "reasoning_summary_text", "text", item["summary"][0], "summary_index"
    if item["type"] == "function_call":
        return "function_call_arguments", "arguments", None, None
    part: dict[str, Any] = item["content"][0]
    name = str(part["type"])
    return name, "refusal" if name == "refusal" else "text", part, "content_index"


def error(failure: Failure) -> tuple[int, dict[str, str], dict[str, object]]:
    """Return status, headers and body of an error.

    With the status 200 it is a response that failed.
    """
    if failure.status != 200:
        return openai.error(failure)
    shown = {"code": failure.code or "server_error", "message": failure.message}
    body = _response(ChatRequest("fake-model"), Answer(counted=False), (), "failed")
    return 200, {}, body | {"error": shown}


def error_event(failure: Failure) -> bytes:
    """Return an error for the middle of a stream."""
    found: Any = openai.error(failure)[2]["error"]
    code = found["code"] or "server_error"
    fields = {"code": code, "message": failure.message, "param": failure.param, "sequence_number": 0}
    return _event("error", fields)


def _event(kind: str, fields: Mapping[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))

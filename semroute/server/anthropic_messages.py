"""Anthropic's Messages, served.

Source: https://docs.anthropic.com/en/api/messages, .../messages-streaming (the order of events), .../errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from secrets import token_hex
from typing import Any

from semroute.catalog import estimate_tokens
from semroute.errors import InputError
from semroute.server.formats import HINTS, AnswerStream, ServedCall, ServedError, json_bytes, vendor_headers
from semroute.types import Completion, Delta, NativeBody, ReasoningBlock, Request, Tool, ToolCallDelta, Usage
from semroute.types.anthropic import openai_messages

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

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_SAME = ("temperature", "top_p", "top_k", "service_tier")
_OF_A_RESULT = frozenset({"text", "image"})
_BLOCKS: Mapping[str, frozenset[str]] = {
    "system": frozenset({"text"}),
    "user": frozenset({"text", "image", "tool_result"}),
    "assistant": frozenset({"text", "image", "tool_use", "thinking", "redacted_thinking"}),
}
"""Types of blocks in a message of each role."""
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "tool_use": ("id", "name"),
    "tool_result": ("tool_use_id",),
    "redacted_thinking": ("data",),
}
"""Fields of a block that are text; only the text of a text block may be empty."""
_OF_A_TOOL = frozenset(
    {
        "type", "name", "description", "input_schema", "cache_control", "strict", "eager_input_streaming",
        "input_examples",
    }
)  # fmt: skip
"""Fields of a tool that other formats have, or that are hints."""
_READ = frozenset(
    {
        "model", "max_tokens", "messages", "system", "stop_sequences", "stream", "tools", "tool_choice", "thinking",
        "metadata", "output_config", *_SAME,
    }
)  # fmt: skip


class Messages:
    """Anthropic's Messages as a server's format."""

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ServedCall:
        """Return the call in a body, with the names of beta features in the headers.

        Raises:
            InputError: the body cannot be used; the message names the path.
        """
        model, streaming = body.get("model"), body.get("stream")
        if not isinstance(model, str) or not model:
            raise _wrong("model", 'is missing; it is "auto", or a name that GET /v1/models lists')
        if not isinstance(streaming, bool | None):
            raise _wrong("stream", "is neither true nor false")
        request = request_of(body, headers=vendor_headers(headers or {}, BETAS))
        return ServedCall(model, request, bool(streaming))

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
        return _EventStream(call)

    def error(self, status: int, kind: str, message: str, wait_s: float | None = None) -> ServedError:
        """Return an error in Anthropic's shape."""
        body = {"type": "error", "error": {"type": _TYPES[kind], "message": message}}
        return ServedError(OVERLOADED if kind == "overloaded" else status, body, wait_s)


# From a body to a request.


def request_of(
    body: Mapping[str, Any], *, needs_limit: bool = True, headers: Mapping[str, str] | None = None
) -> Request:
    """Return the request in a body of Messages.

    Its ``native`` is the body itself, for deployments of Anthropic's format. Fields that only Anthropic has stand in
    ``extra``, blocks and choices that a request cannot say among the native body's features: a deployment of another
    format is not called for either.

    Args:
        body: the parsed JSON.
        needs_limit: whether ``max_tokens`` is required; counting tokens has none.
        headers: headers that go with the body.

    Raises:
        InputError: the body cannot be used; the message names the path.
    """
    most = body.get("max_tokens")
    is_limit = isinstance(most, int) and not isinstance(most, bool) and most >= 1
    if not is_limit and (most is not None or needs_limit):
        raise _wrong("max_tokens", "is missing" if most is None else f"is {most!r:.40}, not a whole number above 0")
    features: list[str] = []
    messages = [*_system(body.get("system"), features), *_messages(body.get("messages"), features)]
    fields: dict[str, Any] = {name: body[name] for name in _SAME if body.get(name) is not None}
    extra = {name: value for name, value in body.items() if name not in _READ and value is not None}
    fields |= _tool_fields(body, features)
    fields |= _reasoning(body, extra, features)
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("user_id"), str):
        fields["user"] = metadata["user_id"]
    stops = body.get("stop_sequences") or ()
    if not isinstance(stops, Sequence) or isinstance(stops, str):
        raise _wrong("stop_sequences", "is not a list of texts")
    native = NativeBody("anthropic", body, headers or {}, tuple(features))
    return Request(
        tuple(messages), max_tokens=most, stop=tuple(stops), extra=extra, droppable=HINTS, native=native, **fields
    )


def _system(system: object, features: list[str]) -> Iterator[Mapping[str, object]]:
    if isinstance(system, str) and system:
        yield {"role": "system", "content": system}
    elif isinstance(system, Sequence) and not isinstance(system, str) and system:
        parts = [_text_part(block, f"system[{index}]", features) for index, block in enumerate(system)]
        yield {"role": "system", "content": parts}
    elif system:
        raise _wrong("system", "is neither text nor a list of text blocks")


def _messages(messages: object, features: list[str]) -> Iterator[Mapping[str, object]]:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise _wrong("messages", "is not a list of messages")
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(role, str) or role not in _BLOCKS:
            raise _wrong(f"{path}.role", 'is neither "user" nor "assistant"')
        if isinstance(content, str):
            yield {"role": role, "content": content}
            continue
        if not isinstance(content, Sequence):
            raise _wrong(f"{path}.content", "is neither text nor a list of blocks")
        for index, block in enumerate(content):
            _check_block(block, _BLOCKS[role], f"{path}.content[{index}]", features)
        yield from openai_messages({"role": role, "content": content})


def _check_block(block: Any, allowed: frozenset[str], path: str, features: list[str]) -> None:
    """Check a block of a known type; one that other formats do not have is a feature."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        raise _wrong(path, "is not a block with a type")
    if kind not in allowed:
        features.append(f"{path} ({kind:.40})")
        return
    for name in _NEEDED.get(kind, ()):
        if not isinstance(block.get(name), str) or (not block[name] and name != "text"):
            raise _wrong(f"{path}.{name}", "is missing")
    if kind == "tool_use" and not isinstance(block.get("input"), Mapping):
        raise _wrong(f"{path}.input", "is not a mapping")
    if kind == "image":
        _check_source(block.get("source"), path, features)
    if kind == "tool_result":
        content = block.get("content")
        if not isinstance(content, str | None | list):
            raise _wrong(f"{path}.content", "is neither text nor a list of blocks")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            _check_block(part, _OF_A_RESULT, f"{path}.content[{index}]", features)


def _check_source(source: object, path: str, features: list[str]) -> None:
    needed = {"url": ("url",), "base64": ("media_type", "data")}
    if isinstance(source, Mapping) and all(
        isinstance(source.get(name), str) for name in needed.get(str(source.get("type")), ("type", "url", "data"))
    ):
        return
    kind = source.get("type") if isinstance(source, Mapping) else None
    if isinstance(kind, str) and kind not in needed:
        features.append(f"{path}.source ({kind:.40})")
        return
    raise _wrong(f"{path}.source", "is neither base64 with its media_type and data, nor a url")


def _text_part(block: Any, path: str, features: list[str]) -> Mapping[str, object]:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if isinstance(kind, str) and kind != "text":
        features.append(f"{path} ({kind:.40})")
        return {"type": "text", "text": ""}
    text = block.get("text") if isinstance(block, Mapping) else None
    if not isinstance(text, str):
        raise _wrong(f"{path}.text", "is missing")
    return {"type": "text", "text": text} | _marker(block)


def _marker(block: Mapping[str, Any]) -> dict[str, object]:
    marker = block.get("cache_control")
    return {} if marker is None else {"cache_control": marker}


def _tool_fields(body: Mapping[str, Any], features: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    tools = body.get("tools")
    if tools is not None:
        if not isinstance(tools, Sequence) or isinstance(tools, str):
            raise _wrong("tools", "is not a list of tools")
        fields["tools"] = tuple(_tool(tool, f"tools[{index}]", features) for index, tool in enumerate(tools))
    choice = body.get("tool_choice")
    if choice is None:
        return fields
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind == "tool" and isinstance(choice.get("name"), str):
        fields["tool_choice"] = choice["name"]
    elif kind in _CHOICES:
        fields["tool_choice"] = _CHOICES[kind]
    elif isinstance(kind, str) and kind != "tool":
        features.append(f"tool_choice ({kind:.40})")
    else:
        raise _wrong("tool_choice", 'has no type "auto", "any", "none", or "tool" with a name')
    if choice.get("disable_parallel_tool_use") is True:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: Any, path: str, features: list[str]) -> Tool:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    name = tool.get("name") if isinstance(tool, Mapping) else None
    if isinstance(kind, str) and kind != "custom":  # one of Anthropic's own, which runs there
        return Tool(name if isinstance(name, str) and name else kind, definition=dict(tool))
    if not isinstance(name, str) or not name:
        raise _wrong(f"{path}.name", "is missing")
    description, schema, marker = tool.get("description"), tool.get("input_schema"), tool.get("cache_control")
    if not isinstance(schema, Mapping):
        raise _wrong(f"{path}.input_schema", "is not a JSON schema")
    if not isinstance(description, str | None):
        raise _wrong(f"{path}.description", "is not text")
    features += (f"{path}.{key:.40}" for key, value in tool.items() if value and key not in _OF_A_TOOL)
    strict = True if tool.get("strict") is True else None
    return Tool(name, description or "", schema, marker, strict)


def _reasoning(body: Mapping[str, Any], extra: dict[str, object], features: list[str]) -> dict[str, Any]:
    """Return the fields of thinking, effort and structured output; what has no field goes into ``extra``."""
    fields: dict[str, Any] = {}
    thinking = body.get("thinking")
    given: Mapping[str, Any] = thinking if isinstance(thinking, Mapping) else {}
    budget = given.get("budget_tokens")
    match given.get("type"):
        case "enabled" if isinstance(budget, int):
            fields["thinking_budget"] = budget
        case "adaptive":
            fields["thinking_budget"] = -1
        case "disabled":
            fields["thinking_budget"] = 0
        case str(kind) if kind != "enabled":
            features.append(f"thinking ({kind:.40})")
        case _ if thinking is not None:
            raise _wrong("thinking", 'has no type "enabled" with budget_tokens, "adaptive" or "disabled"')
    output = body.get("output_config")
    if output is None:
        return fields
    if not isinstance(output, Mapping):
        raise _wrong("output_config", "is not a mapping")
    rest = dict(output)
    if isinstance(effort := rest.pop("effort", None), str):
        fields["reasoning_effort"] = effort
    schema = rest.pop("format", None)
    if isinstance(schema, Mapping) and isinstance(schema.get("schema"), Mapping):
        fields["json_schema"] = schema["schema"]
    elif isinstance(schema, Mapping) and schema.get("type") not in (None, "json_schema"):
        features.append(f"output_config.format ({schema['type']!s:.40})")
    elif schema is not None:
        raise _wrong("output_config.format", 'is not {"type": "json_schema", "schema": {…}}')
    if rest:
        extra["output_config"] = rest
    return fields


def _wrong(path: str, what: str) -> InputError:
    return InputError(f"{path}: {what}")


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
    """Return a call's arguments as the object that this format has; text that is none stands under ``arguments``."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"arguments": arguments}


def usage_of(usage: Usage | None) -> dict[str, object]:
    """Return token counts in Anthropic's shape, whose input tokens are those that no cache had."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    cached = usage.cached_tokens + usage.cache_write_tokens
    return {
        "input_tokens": max(usage.input_tokens - cached, 0),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }


class _EventStream:
    """Encoder of a streamed answer as Anthropic's events: one content block is open at a time.

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
        yield _line(str(kind), event)

    def _counted(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the start of a message, with an estimate where it counts no token of the input."""
        usage = message.get("usage") or {}
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        if any(usage.get(name) for name in names):
            return message
        return {**message, "usage": {"output_tokens": 1, **usage, "input_tokens": self._estimate()}}

    def _think(self, text: str) -> Iterator[bytes]:
        yield from self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        yield self._piece({"type": "thinking_delta", "thinking": text})

    def _sign(self, block: ReasoningBlock) -> Iterator[bytes]:
        """Close a block of reasoning with its signature, which the client sends back to its own vendor's models."""
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

"""Requests in Anthropic's Messages, read.

Source: https://docs.anthropic.com/en/api/messages. What the fields of a request cannot say becomes a feature of its
native body, with its path; only a body that no server could use is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from semroute.errors import InputError
from semroute.server.formats import HINTS
from semroute.types import NativeBody, Request, Tool
from semroute.types.anthropic import openai_messages

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
        raise wrong("max_tokens", "is missing" if most is None else f"is {most!r:.40}, not a whole number above 0")
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
        raise wrong("stop_sequences", "is not a list of texts")
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
        raise wrong("system", "is neither text nor a list of text blocks")


def _messages(messages: object, features: list[str]) -> Iterator[Mapping[str, object]]:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise wrong("messages", "is not a list of messages")
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(role, str) or role not in _BLOCKS:
            raise wrong(f"{path}.role", 'is neither "user" nor "assistant"')
        if isinstance(content, str):
            yield {"role": role, "content": content}
            continue
        if not isinstance(content, Sequence):
            raise wrong(f"{path}.content", "is neither text nor a list of blocks")
        for index, block in enumerate(content):
            _check_block(block, _BLOCKS[role], f"{path}.content[{index}]", features)
        yield from openai_messages({"role": role, "content": content})


def _check_block(block: Any, allowed: frozenset[str], path: str, features: list[str]) -> None:
    """Check a block of a known type.

    One that other formats do not have is a feature.
    """
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        raise wrong(path, "is not a block with a type")
    if kind not in allowed:
        features.append(f"{path} ({kind:.40})")
        return
    for name in _NEEDED.get(kind, ()):
        if not isinstance(block.get(name), str) or (not block[name] and name != "text"):
            raise wrong(f"{path}.{name}", "is missing")
    if kind == "tool_use" and not isinstance(block.get("input"), Mapping):
        raise wrong(f"{path}.input", "is not a mapping")
    if kind == "image":
        _check_source(block.get("source"), path, features)
    if kind == "tool_result":
        content = block.get("content")
        if not isinstance(content, str | None | list):
            raise wrong(f"{path}.content", "is neither text nor a list of blocks")
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
    raise wrong(f"{path}.source", "is neither base64 with its media_type and data, nor a url")


def _text_part(block: Any, path: str, features: list[str]) -> Mapping[str, object]:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if isinstance(kind, str) and kind != "text":
        features.append(f"{path} ({kind:.40})")
        return {"type": "text", "text": ""}
    text = block.get("text") if isinstance(block, Mapping) else None
    if not isinstance(text, str):
        raise wrong(f"{path}.text", "is missing")
    return {"type": "text", "text": text} | _marker(block)


def _marker(block: Mapping[str, Any]) -> dict[str, object]:
    marker = block.get("cache_control")
    return {} if marker is None else {"cache_control": marker}


def _tool_fields(body: Mapping[str, Any], features: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    tools = body.get("tools")
    if tools is not None:
        if not isinstance(tools, Sequence) or isinstance(tools, str):
            raise wrong("tools", "is not a list of tools")
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
        raise wrong("tool_choice", 'has no type "auto", "any", "none", or "tool" with a name')
    if choice.get("disable_parallel_tool_use") is True:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: Any, path: str, features: list[str]) -> Tool:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    name = tool.get("name") if isinstance(tool, Mapping) else None
    if isinstance(kind, str) and kind != "custom":  # one of Anthropic's own, which runs there
        return Tool(name if isinstance(name, str) and name else kind, definition=dict(tool))
    if not isinstance(name, str) or not name:
        raise wrong(f"{path}.name", "is missing")
    description, schema, marker = tool.get("description"), tool.get("input_schema"), tool.get("cache_control")
    if not isinstance(schema, Mapping):
        raise wrong(f"{path}.input_schema", "is not a JSON schema")
    if not isinstance(description, str | None):
        raise wrong(f"{path}.description", "is not text")
    features += (f"{path}.{key:.40}" for key, value in tool.items() if value and key not in _OF_A_TOOL)
    strict = True if tool.get("strict") is True else None
    return Tool(name, description or "", schema, marker, strict)


def _reasoning(body: Mapping[str, Any], extra: dict[str, object], features: list[str]) -> dict[str, Any]:
    """Return the fields of thinking, effort and structured output.

    What has no field goes into ``extra``.
    """
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
            raise wrong("thinking", 'has no type "enabled" with budget_tokens, "adaptive" or "disabled"')
    output = body.get("output_config")
    if output is None:
        return fields
    if not isinstance(output, Mapping):
        raise wrong("output_config", "is not a mapping")
    rest = dict(output)
    if isinstance(effort := rest.pop("effort", None), str):
        fields["reasoning_effort"] = effort
    schema = rest.pop("format", None)
    if isinstance(schema, Mapping) and isinstance(schema.get("schema"), Mapping):
        fields["json_schema"] = schema["schema"]
    elif isinstance(schema, Mapping) and schema.get("type") not in (None, "json_schema"):
        features.append(f"output_config.format ({schema['type']!s:.40})")
    elif schema is not None:
        raise wrong("output_config.format", 'is not {"type": "json_schema", "schema": {…}}')
    if rest:
        extra["output_config"] = rest
    return fields


def wrong(path: str, what: str) -> InputError:
    """Return the error of a body that cannot be used."""
    return InputError(f"{path}: {what}")

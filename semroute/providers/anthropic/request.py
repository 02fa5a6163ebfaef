"""A request in the wire format of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages. An answer that follows a schema is asked for with
``output_config.format`` (https://platform.claude.com/docs/en/build-with-claude/structured-outputs): the model is held
to the schema while it writes, the answer arrives as plain text and streams as such, and tools stay free for their own
use. The older way, a tool that the model is forced to call, guarantees nothing and leaves no room for other tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from semroute.errors import CapabilityError
from semroute.providers.conversation.images import InlineImage, LinkedImage
from semroute.providers.conversation.lacking import lacks
from semroute.providers.conversation.messages import Call, Part, Result, Text, read
from semroute.providers.conversation.tool_choice import ToolChoice, tool_choice
from semroute.providers.target import Target
from semroute.types import Request, Tool

DEFAULT_MAX_TOKENS = 8192
"""Sent where the request names no limit, for the API asks for one: the most that every model since Claude 3.5 takes."""
MAX_TEMPERATURE = 1.0
"""Anthropic's scale ends where OpenAI's is half through."""

_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_MODES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any"}
_SCHEMAS = frozenset({"items", "prefixItems", "anyOf", "oneOf", "allOf"})
_SCHEMAS_BY_NAME = frozenset({"properties", "$defs", "definitions"})


def payload(target: Target, request: Request, *, stream: bool = False) -> dict[str, object]:
    """The body of the request; what it leaves open is left to the provider, but for ``max_tokens``.

    Raises:
        CapabilityError: it asks for what this format cannot carry.
        RequestError: it holds what no provider could read.
    """
    _refuse(target, request)
    conversation = read(request, target.deployment.name)
    body: dict[str, object] = {
        "model": target.deployment.upstream,
        "max_tokens": DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        "messages": [{"role": turn.role, "content": _blocks(turn.parts)} for turn in conversation.turns],
    }
    if conversation.system:
        body["system"] = [{"type": "text", "text": text} for text in conversation.system]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if (choice := tool_choice(request, target.deployment.name)) is not None:
        body["tool_choice"] = _choice(choice)
    if request.json_schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": closed(request.json_schema)}}
    if stream:
        body["stream"] = True
    return body


def closed(schema: Mapping[str, object]) -> dict[str, object]:
    """The schema with every object that leaves it open closed to further properties, as the API demands."""
    copy = {key: _closed_below(key, value) for key, value in schema.items()}
    kind = copy.get("type")
    if kind == "object" or (isinstance(kind, list | tuple) and "object" in kind):
        copy.setdefault("additionalProperties", False)
    return copy


def _closed_below(key: str, value: object) -> object:
    if key in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
        return {name: closed(part) if isinstance(part, Mapping) else part for name, part in value.items()}
    if key in _SCHEMAS and isinstance(value, Mapping):
        return closed(value)
    if key in _SCHEMAS and isinstance(value, list | tuple):
        return [closed(part) if isinstance(part, Mapping) else part for part in value]
    return value


def _refuse(target: Target, request: Request) -> None:
    name = target.deployment.name
    if missing := lacks(target, request):
        raise CapabilityError(f"{name}: Anthropic's format cannot carry {', '.join(missing)}", deployment=name)
    if request.temperature is not None and request.temperature > MAX_TEMPERATURE:
        message = f"{name}: Anthropic takes a temperature of at most {MAX_TEMPERATURE:g}, not {request.temperature:g}"
        raise CapabilityError(message, deployment=name)
    if any(not text.strip() for text in request.stop):
        raise CapabilityError(f"{name}: Anthropic takes no stop text of white space alone", deployment=name)


def _blocks(parts: Iterable[Part]) -> list[dict[str, object]]:
    return [_block(part) for part in parts]


def _block(part: Part) -> dict[str, object]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case InlineImage(media_type, data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case LinkedImage(url):
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Call(id, name, arguments):
            return {"type": "tool_use", "id": _id(id), "name": name, "input": dict(arguments)}
        case Result(id, _, content):
            return {"type": "tool_result", "tool_use_id": _id(id), "content": _blocks(content)}


def _id(id: str) -> str:
    """A call's id in the letters that Anthropic takes: the call may have been another provider's."""
    return _NOT_IN_AN_ID.sub("_", id)


def _tool(tool: Tool) -> dict[str, object]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": {"type": "object", **tool.parameters}}


def _choice(choice: ToolChoice) -> dict[str, object]:
    if choice.name is not None:
        return {"type": "tool", "name": choice.name}
    return {"type": _MODES[choice.mode]}

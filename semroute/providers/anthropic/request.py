"""A request in the wire format of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages. An answer that follows a schema is asked for with
``output_config.format`` (https://platform.claude.com/docs/en/build-with-claude/structured-outputs): the model is held
to the schema while it writes, the answer arrives as plain text and streams as such, and tools stay free for their own
use. The older way, a tool that the model is forced to call, guarantees nothing and leaves no room for other tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from semroute.errors import CapabilityError
from semroute.providers.anthropic.thinking import thinking
from semroute.providers.conversation.images import InlineImage, LinkedImage
from semroute.providers.conversation.lacking import add_extra, lacks, parameters
from semroute.providers.conversation.messages import CallPart, Conversation, Part, Result, Role, Text, read
from semroute.providers.conversation.tool_choice import ToolChoice, tool_choice
from semroute.providers.target import CallTarget
from semroute.types import Request, Tool

DEFAULT_MAX_TOKENS = 8192
"""Sent where the request names no limit, for the API asks for one: the most that every model since Claude 3.5 takes."""
NO_TEXT = "(no text)"
"""Said for a user who says nothing where the API wants a text."""

_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_MODES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any"}
_SCHEMAS = frozenset({"items", "prefixItems", "anyOf", "oneOf", "allOf"})
_SCHEMAS_BY_NAME = frozenset({"properties", "$defs", "definitions"})


def payload(target: CallTarget, request: Request, *, stream: bool = False) -> dict[str, object]:
    """The body of the request; what it leaves open is left to the provider, but for ``max_tokens``.

    Raises:
        CapabilityError: it asks for what this format cannot carry.
        RequestError: it holds what no provider could read.
    """
    _refuse(target, request)
    name, found = target.deployment.name, parameters(target, request, stream=stream)
    conversation = read(request, name)
    body: dict[str, object] = {
        "model": target.deployment.upstream,
        "max_tokens": DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        "messages": _messages(conversation, request, name),
    }
    if instructions := _blocks(conversation.instructions):
        body["system"] = instructions
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if (choice := tool_choice(request, name)) is not None:
        body["tool_choice"] = _choice(choice)
    body |= _named(found.named, request, target)
    if stream:
        body["stream"] = True
    add_extra(body, found.extra, target)
    if "cache_control" not in found.named:
        _remove_markers(body)
    return body


def _named(named: Mapping[str, object], request: Request, target: CallTarget) -> dict[str, object]:
    """The parameters in the API's words."""
    body: dict[str, object] = {name: named[name] for name in ("temperature", "top_p", "top_k") if name in named}
    output: dict[str, object] = {}
    if request.json_schema is not None:
        output["format"] = {"type": "json_schema", "schema": closed(request.json_schema)}
    if (effort := named.get("reasoning_effort")) not in (None, "none"):
        output["effort"] = effort  # https://platform.claude.com/docs/en/build-with-claude/effort
    if output:
        body["output_config"] = output
    body |= thinking(named, request, target)
    if "user" in named:
        body["metadata"] = {"user_id": named["user"]}
    if "service_tier" in named:
        tier = named["service_tier"]
        body["service_tier"] = "standard_only" if tier in ("default", "standard") else tier
    if named.get("parallel_tool_calls") is False and request.tools and request.tool_choice != "none":
        choice = tool_choice(request, target.deployment.name) or ToolChoice("auto")
        body["tool_choice"] = {**_choice(choice), "disable_parallel_tool_use": True}
    return body


def _remove_markers(body: Mapping[str, object]) -> None:
    """Remove the cache markers that the request allows to be left out."""
    for name in ("system", "tools", "messages"):
        for holder in cast("list[dict[str, Any]]", body.get(name, [])):
            holder.pop("cache_control", None)
            for block in holder["content"] if name == "messages" else ():
                block.pop("cache_control", None)
                for inner in block.get("content", ()):
                    inner.pop("cache_control", None)


def _messages(conversation: Conversation, request: Request, deployment: str) -> list[dict[str, object]]:
    """The turns as messages, of which the API refuses those without a visible text.

    White space alone is left out like an empty text. Where a user's turn that the structure needs says nothing, it
    says :data:`NO_TEXT`: the conversation begins with the user, and without the last turn the model would go on with
    what it said before in place of answering.

    Raises:
        CapabilityError: nothing is left.
    """
    messages: list[tuple[Role, list[dict[str, object]]]] = []
    for turn in conversation.turns:
        blocks = _blocks(turn.parts)
        if blocks and messages and messages[-1][0] == turn.role:
            messages[-1][1].extend(blocks)
        elif blocks:
            messages.append((turn.role, blocks))
    if not messages:
        raise CapabilityError(f"{deployment}: no message has any text that can be seen", deployment=deployment)
    if messages[0][0] == "assistant":
        messages.insert(0, ("user", [_text(NO_TEXT)]))
    if messages[-1][0] == "assistant" and request.messages[-1].get("role") == "user":
        messages.append(("user", [_text(NO_TEXT)]))
    role, last = messages[-1]
    if role == "assistant" and isinstance(text := last[-1].get("text"), str):
        last[-1]["text"] = text.rstrip()  # the model goes on with it, and the API refuses white space at its end
    return [{"role": role, "content": blocks} for role, blocks in messages]


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


def _refuse(target: CallTarget, request: Request) -> None:
    name = target.deployment.name
    if missing := lacks(target, request):
        raise CapabilityError(f"{name}: Anthropic's format cannot carry {', '.join(missing)}", deployment=name)
    if any(not text.strip() for text in request.stop):
        raise CapabilityError(f"{name}: Anthropic takes no stop text of white space alone", deployment=name)


def _blocks(parts: Iterable[Part]) -> list[dict[str, object]]:
    return [_block(part) for part in parts if not (isinstance(part, Text) and not part.text.strip())]


def _block(part: Part) -> dict[str, object]:
    marker = {} if part.cache_control is None else {"cache_control": dict(part.cache_control)}
    return {**_unmarked(part), **marker}


def _unmarked(part: Part) -> dict[str, object]:
    match part:
        case Text(text):
            return _text(text)
        case InlineImage(media_type, data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case LinkedImage(url):
            return {"type": "image", "source": {"type": "url", "url": url}}
        case CallPart(id, name, arguments):
            return {"type": "tool_use", "id": _id(id), "name": name, "input": dict(arguments)}
        case Result(id, _, content):
            return {"type": "tool_result", "tool_use_id": _id(id), "content": _blocks(content)}


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _id(id: str) -> str:
    """A call's id in the letters that Anthropic takes: the call may have been another provider's."""
    return _NOT_IN_AN_ID.sub("_", id)


def _tool(tool: Tool) -> dict[str, object]:
    described = {"description": tool.description} if tool.description else {}
    marker = {"cache_control": dict(tool.cache_control)} if tool.cache_control else {}
    return {"name": tool.name, **described, "input_schema": {"type": "object", **tool.parameters}, **marker}


def _choice(choice: ToolChoice) -> dict[str, object]:
    if choice.name is not None:
        return {"type": "tool", "name": choice.name}
    return {"type": _MODES[choice.mode]}

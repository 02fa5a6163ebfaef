"""A request in OpenAI's wire format.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping

from semroute.catalog import Parameters
from semroute.errors import CapabilityError, RequestError
from semroute.providers.conversation.lacking import add_extra, lacks, parameters
from semroute.providers.openai.messages import MessageWriter
from semroute.providers.target import CallTarget
from semroute.types import Request, Tool

_CHOICES = ("auto", "none", "required")
_NOT_STRICT = frozenset({"allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"})


def payload(target: CallTarget, request: Request, *, stream: bool = False) -> dict[str, object]:
    """The body of the request; what the request leaves open is left to the provider.

    Raises:
        CapabilityError: it asks for what the vendor's row says that it lacks, or for several answers in a stream.
        RequestError: a field has a shape that no server would take.
    """
    if missing := lacks(target, request):
        name = target.deployment.name
        raise CapabilityError(f"{name}: {target.deployment.provider} lacks {', '.join(missing)}", deployment=name)
    found = parameters(target, request, stream=stream)
    messages = _messages(target, request, with_cache="cache_control" in found.named)
    body: dict[str, object] = {"model": target.deployment.upstream, "messages": messages}
    if request.max_tokens is not None:
        body[_limit_name(target)] = request.max_tokens
    if request.stop:
        body["stop"] = [request.stop] if isinstance(request.stop, str) else list(request.stop)
    if request.tools:
        body["tools"] = [_tool(target, tool, with_cache="cache_control" in found.named) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(target, request)
    if request.json_schema is not None:
        body["response_format"] = _response_format(target, request.json_schema)
    if request.logprobs:
        body["logprobs"] = True
    if stream:
        # Without the option OpenAI does not count the tokens of a stream.
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= _named(target, found)
    add_extra(body, found.extra, target)
    return body


def _named(target: CallTarget, found: Parameters) -> dict[str, object]:
    """The parameters under the names of the vendor's wire."""
    named = {name: value for name, value in found.named.items() if name != "cache_control"}
    if "seed" in named:
        named[target.deployment.vendor.seed] = named.pop("seed")
    if target.deployment.provider == "openrouter" and "thinking_budget" in named:
        # https://openrouter.ai/docs/use-cases/reasoning-tokens
        named["reasoning"] = {"max_tokens": named.pop("thinking_budget")}
    return named


def _limit_name(target: CallTarget) -> str:
    """OpenAI's reasoning models refuse ``max_tokens``; servers that no row describes mostly know no other name."""
    deployment, vendor = target.deployment, target.deployment.vendor
    is_unknown = deployment.provider is None and deployment.base_url != vendor.base_url
    return "max_tokens" if is_unknown else vendor.max_tokens


def _messages(target: CallTarget, request: Request, *, with_cache: bool) -> list[dict[str, object]]:
    row, deployment = target.deployment.row, target.deployment
    own = frozenset() if row is None else row.message_fields
    writer = MessageWriter(own | set(deployment.message_fields), with_cache=with_cache)
    messages: list[dict[str, object]] = []
    for number, message in enumerate(request.messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _wrong(target, f"message {number} is not a mapping with a role")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list | tuple):
            raise _wrong(target, f"the content of message {number} is a {type(content).__name__}, not text or parts")
        messages.append(writer.write(message))
    if not messages:
        raise _wrong(target, "there is no message")
    return messages


def _tool(target: CallTarget, tool: Tool, *, with_cache: bool) -> dict[str, object]:
    if not isinstance(tool, Tool) or not isinstance(tool.parameters, Mapping):
        raise _wrong(target, "a tool is not a Tool with a mapping of parameters")
    function: dict[str, object] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:  # left out, it means a function without parameters
        function["parameters"] = dict(tool.parameters)
    marker = {"cache_control": dict(tool.cache_control)} if with_cache and tool.cache_control else {}
    return {"type": "function", "function": function, **marker}


def _tool_choice(target: CallTarget, request: Request) -> object:
    choice = request.tool_choice
    if choice in _CHOICES:
        return choice
    if choice not in [tool.name for tool in request.tools]:
        raise _wrong(target, f"tool_choice is neither {', '.join(_CHOICES)} nor the name of one of the tools")
    return {"type": "function", "function": {"name": choice}}


def _response_format(target: CallTarget, schema: Mapping[str, object]) -> dict[str, object]:
    if not isinstance(schema, Mapping):
        raise _wrong(target, "json_schema is not a mapping")
    named = {"name": "answer", "schema": dict(schema), "strict": schema.get("type") == "object" and _is_strict(schema)}
    return {"type": "json_schema", "json_schema": named}


def _is_strict(schema: object) -> bool:
    """Whether OpenAI takes the schema in strict mode, which guarantees it and refuses what is not closed.

    Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(schema, list | tuple):
        return all(_is_strict(part) for part in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
            return False
        if schema.get("additionalProperties") is not False or any(name not in required for name in properties):
            return False
    if _NOT_STRICT & schema.keys():
        return False
    nested = (schema.get("items"), schema.get("anyOf"))
    named = (schema.get(name) for name in ("properties", "$defs", "definitions"))
    return _is_strict(nested) and all(_is_strict(list(group.values())) for group in named if isinstance(group, Mapping))


def _wrong(target: CallTarget, message: str) -> RequestError:
    return RequestError(f"{target.deployment.name}: {message}", deployment=target.deployment.name)

"""Native bodies: requests and answers in the deployment's own format.

Everything that must not be changed goes upstream as it came, with the keys in the client's order, and the answer comes
back as the vendor gave it: fields, blocks and events that this package does not know, tools of the vendor's own,
identifiers of tool calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from semroute.catalog import Parameters, takes_native
from semroute.config.deployments import VENDORS
from semroute.errors import CapabilityError
from semroute.providers.openai_wire import MessageWriter
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, NativeBody, Request

DEFAULT_MAX_TOKENS = 8192
"""Limit of a body of Anthropic's without one, since the API requires it: the most that every model since Claude 3.5
accepts."""

_LIMITS = ("max_completion_tokens", "max_tokens")
_REASONING = frozenset({"reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"})
"""Fields of an assistant's message with the reasoning of one vendor, which others refuse."""
_ADDED_TO_CALLS = frozenset({"extra_content", "index"})
"""Fields of a tool call that are no part of a request: Gemini's signature, and the position in a stream, which the
clients leave in the call that they send back."""
_REASONING_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
_CALL_ITEMS = frozenset({"function_call", "custom_tool_call"})
_MARKED = frozenset({"messages", "system", "tools", "content", "function"})
"""Fields below which a cache marker stands."""


def native_body(target: CallTarget, request: Request) -> NativeBody | None:
    """Return the client's own body if the deployment speaks its format.

    None otherwise.
    """
    native = request.native
    return native if native is not None and takes_native(target.deployment, native.format) else None


def native_headers(target: CallTarget, request: Request) -> dict[str, str]:
    """Return the headers of a native body: the vendor's beta features."""
    native = native_body(target, request)
    return {} if native is None else dict(native.headers)


def chat_body(
    target: CallTarget, request: Request, native: NativeBody, found: Parameters, *, limit: str, stream: bool
) -> dict[str, object]:
    """Return a native body of OpenAI's Chat Completions for a deployment.

    Changed are the model, ``stream`` and its token counts, names that the vendor's row has otherwise, parameters that
    it does not carry and that may be left out, reasoning of other vendors, and what a cascade asks for itself (log
    probabilities, a temperature, an effort).

    Args:
        target: deployment and credential.
        request: the request that the body belongs to.
        native: the body.
        found: parameters that the deployment carries.
        limit: the vendor's name of the limit of the answer.
        stream: whether the answer is streamed.
    """
    body = _without(native.body, request, found)
    renamed = {old: limit for old in _LIMITS if body.get(old) is not None} | {"seed": target.deployment.vendor.seed}
    body = {renamed.get(name, name): value for name, value in body.items()}
    body["model"] = target.deployment.upstream
    messages = body.get("messages")
    if isinstance(messages, list):
        writer = _MessageFilter(target, with_cache="cache_control" in found.named)
        body["messages"] = [writer.filtered(message) for message in messages]
    if target.deployment.provider == "openrouter" and "thinking_budget" in body:
        # https://openrouter.ai/docs/use-cases/reasoning-tokens
        body["reasoning"] = {"max_tokens": body.pop("thinking_budget")}
    if request.logprobs and body.get("logprobs") is not True:
        body["logprobs"] = True
    if (effort := _added_effort(request, found)) is not None:
        body["reasoning_effort"] = effort
    _set_temperature(body, found)
    options = body.pop("stream_options", None) if not stream else body.get("stream_options")
    if stream:
        # Without this option OpenAI does not count the tokens of a stream.
        counted = options if isinstance(options, Mapping) else {}
        body |= {"stream": True, "stream_options": {**counted, "include_usage": True}}
    elif body.get("stream"):
        body["stream"] = False
    return body


def messages_body(
    target: CallTarget, request: Request, native: NativeBody, found: Parameters, *, stream: bool
) -> dict[str, object]:
    """Return a native body of Anthropic's Messages for a deployment.

    Changed are the model, ``stream``, parameters that the deployment does not carry and that may be left out, a
    temperature and an effort that a cascade asks for, and thinking of other vendors, which has no signature. Where the
    thinking before a tool's result was another vendor's, thinking is off for this one call: the API demands its own
    there. ``max_tokens``, which it demands, is added where it is missing.

    Args: as of :func:`chat_body`.

    Raises:
        CapabilityError: a sample at a temperature is wanted, and the body asks for thinking.
    """
    body = _without(native.body, request, found)
    body["model"] = target.deployment.upstream
    messages = body.get("messages")
    if isinstance(messages, list):
        body["messages"] = list(_own_thinking(messages))
    thinking = body.get("thinking")
    is_fixed = isinstance(thinking, Mapping) and thinking.get("type") == "enabled"
    if is_fixed and _lacks_thinking_before_result(body.get("messages")):
        del body["thinking"]
    if "thinking" in body and not _is_off(thinking) and _samples(body, found):
        name = target.deployment.name
        raise CapabilityError(f"{name}: Anthropic takes no temperature for thinking", deployment=name)
    _set_temperature(body, found)
    _set_effort(body, _added_effort(request, found))
    body.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    if stream or body.get("stream"):
        body["stream"] = stream
    return body


def responses_body(
    target: CallTarget, request: Request, native: NativeBody, found: Parameters, *, stream: bool
) -> dict[str, object]:
    """Return a native body of OpenAI's Responses for a deployment.

    Changed are the model, ``stream``, parameters that the deployment does not carry and that may be left out, and a
    temperature and an effort that a cascade asks for. ``store`` is false where it is missing, whatever the vendor's
    default.

    Args: as of :func:`chat_body`.
    """
    body = _without(native.body, request, found)
    body["model"] = target.deployment.upstream
    _set_temperature(body, found)
    given = body.get("reasoning")
    reasoning = given if isinstance(given, Mapping) else {}
    if "reasoning_effort" in found.named and reasoning.get("effort") is None:
        body["reasoning"] = {**reasoning, "effort": found.named["reasoning_effort"]}
    body.setdefault("store", False)
    if not stream:
        body.pop("stream_options", None)
    if stream or body.get("stream"):
        body["stream"] = stream
    return body


def _without(body: Mapping[str, object], request: Request, found: Parameters) -> dict[str, object]:
    """Return a body's top level without parameters that are not carried."""
    left_out = found.left_out
    if not left_out:
        return dict(body)
    if "user" in left_out and request.native is not None and request.native.format == "anthropic":
        left_out |= {"metadata"}
    kept = {name: value for name, value in body.items() if name not in left_out}
    return {name: _unmarked(name, value) for name, value in kept.items()} if "cache_control" in left_out else kept


def _unmarked(name: str, value: Any) -> Any:
    """Return the value of a field without the cache markers in it."""
    if name not in _MARKED:
        return value
    if isinstance(value, list):
        return [_unmarked(name, item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {key: _unmarked(key, inner) for key, inner in value.items() if key != "cache_control"}


def _samples(body: Mapping[str, object], found: Parameters) -> bool:
    """Return True if a cascade's temperature is not the body's."""
    temperature = found.named.get("temperature")
    return temperature is not None and temperature != body.get("temperature")


def _set_temperature(body: dict[str, object], found: Parameters) -> None:
    if _samples(body, found):
        body["temperature"] = found.named["temperature"]


def _added_effort(request: Request, found: Parameters) -> object:
    """Return the effort that a cascade's tier adds to a body.

    None where it adds none, or the body has its own.
    """
    native = request.native
    body: Mapping[str, Any] = {} if native is None else native.body
    output = body.get("output_config")
    has_own = "reasoning_effort" in body or (isinstance(output, Mapping) and "effort" in output)
    return None if has_own else found.named.get("reasoning_effort")


def _set_effort(body: dict[str, Any], effort: object) -> None:
    """Set an effort in a body of Anthropic's, which knows no minimal one."""
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort not in (None, "minimal"):
        # https://platform.claude.com/docs/en/build-with-claude/effort
        body["output_config"] = {**(body.get("output_config") or {}), "effort": effort}


def _is_off(thinking: object) -> bool:
    return isinstance(thinking, Mapping) and thinking.get("type") == "disabled"


class _MessageFilter:
    """Filter of the messages of a native body of OpenAI's format.

    Servers other than OpenAI's own that have a row refuse fields of an assistant's message beyond those of their row;
    for all others only the reasoning of other vendors is left out.
    """

    def __init__(self, target: CallTarget, *, with_cache: bool) -> None:
        deployment, row = target.deployment, target.deployment.row
        own = frozenset() if row is None else row.message_fields
        self._fields = own | set(deployment.message_fields)
        is_strict = row is not None and row not in (VENDORS["openai"], VENDORS["azure"])
        self._writer = MessageWriter(self._fields, with_cache=with_cache) if is_strict else None

    def filtered(self, message: Any) -> Any:
        """Return a message as the deployment takes it.

        It is the same object where nothing changes.
        """
        if not isinstance(message, Mapping) or message.get("role") != "assistant":
            return message
        if self._writer is not None:
            return self._writer.write(message)
        if len(message) == 2 and isinstance(message.get("content"), str):
            return message
        foreign = _REASONING - self._fields
        kept = {name: value for name, value in message.items() if name not in foreign}
        content, calls = kept.get("content"), kept.get("tool_calls")
        if isinstance(content, list):
            hidden = _REASONING_PARTS - self._fields
            kept["content"] = [
                part for part in content if not (isinstance(part, Mapping) and part.get("type") in hidden)
            ] or ""
        if isinstance(calls, list):
            added = _ADDED_TO_CALLS - self._fields
            kept["tool_calls"] = [_without_fields(call, added) for call in calls]
        return kept


def _without_fields(call: Any, names: frozenset[str]) -> Any:
    if not isinstance(call, Mapping) or names.isdisjoint(call):
        return call
    return {name: value for name, value in call.items() if name not in names}


def _own_thinking(messages: list[Any]) -> Iterator[Any]:
    """Yield the messages without thinking that no vendor has signed.

    Vendors are those of the format.
    """
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list) or not any(map(_is_foreign, content)):
            yield message
        elif kept := [block for block in content if not _is_foreign(block)]:
            yield {**message, "content": kept}


def _lacks_thinking_before_result(messages: Any) -> bool:
    """Return True if a tool's result follows an answer without thinking."""
    if not isinstance(messages, list) or "tool_result" not in _kinds(messages[-1] if messages else None):
        return False
    answers = [one for one in messages if isinstance(one, Mapping) and one.get("role") == "assistant"]
    return bool(answers) and not set(_kinds(answers[-1])[:1]) & {"thinking", "redacted_thinking"}


def _kinds(message: Any) -> list[object]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return [block.get("type") for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _is_foreign(block: Any) -> bool:
    kind = block.get("type") if isinstance(block, Mapping) else None
    return (kind == "thinking" and not block.get("signature")) or (
        kind == "redacted_thinking" and not block.get("data")
    )


# Answers.


def whole_chat(
    target: CallTarget, request: Request, answer: Mapping[str, Any], completion: Completion
) -> Mapping[str, Any] | None:
    """Return the vendor's own answer of OpenAI's format.

    The model has its logical name.

    None where the request had no native body, or where calls of the answer had to be put right (no ids, arguments that
    are no text): the client then gets the completion's.
    """
    if native_body(target, request) is None:
        return None
    message = answer["choices"][0].get("message") or {}
    calls = [call.get("id") for call in message.get("tool_calls") or ()]
    if calls != [call.id for call in completion.tool_calls]:
        return None
    for call in message.get("tool_calls") or ():
        if not isinstance((call.get("function") or {}).get("arguments", ""), str):
            return None
    return {**answer, "model": target.deployment.model}


def whole_message(target: CallTarget, answer: Mapping[str, Any], completion: Completion) -> Mapping[str, Any] | None:
    """Return the vendor's own answer of Anthropic's format.

    See :func:`whole_chat`.
    """
    calls = [block.get("id") for block in answer["content"] if block.get("type") == "tool_use"]
    if calls != [call.id for call in completion.tool_calls]:
        return None
    return {**answer, "model": target.deployment.model}


def whole_response(
    target: CallTarget, request: Request, answer: Mapping[str, Any], completion: Completion
) -> Mapping[str, Any] | None:
    """Return the vendor's own answer of Responses; see :func:`whole_chat`."""
    if native_body(target, request) is None:
        return None
    calls = [item.get("call_id") for item in answer["output"] if item.get("type") in _CALL_ITEMS]
    if calls != [call.id for call in completion.tool_calls]:
        return None
    return {**answer, "model": target.deployment.model}


class ChatEvents:
    """Native events of OpenAI's stream, with the logical model's name.

    They end with the first call that has to be put right (no id, or no index): from there on a piece has its parsed
    content alone.

    Args:
        target: deployment and credential.
    """

    def __init__(self, target: CallTarget) -> None:
        self._model = target.deployment.model
        self._is_native = True
        self._opened: set[int] = set()

    def add(self, piece: Delta, data: Any) -> Delta:
        """Return a piece with the event that it was read from."""
        self._is_native = self._is_native and isinstance(data, dict) and all(map(self._is_plain, _fragments(data)))
        return piece.with_native(({**data, "model": self._model},)) if self._is_native else piece

    def _is_plain(self, fragment: Any) -> bool:
        index = fragment.get("index") if isinstance(fragment, dict) else None
        if not isinstance(index, int):
            return False
        if index not in self._opened and not fragment.get("id"):
            return False
        self._opened.add(index)
        return True


def _fragments(chunk: Mapping[str, Any]) -> Iterator[Any]:
    for choice in chunk.get("choices") or ():
        yield from (choice.get("delta") or {}).get("tool_calls") or ()


class MessageEvents:
    """Native events of Anthropic's stream, with the logical model's name.

    Args:
        target: deployment and credential.
    """

    def __init__(self, target: CallTarget) -> None:
        self._model = target.deployment.model
        self._is_native = True

    def add(self, piece: Delta, data: Any) -> Delta:
        """Return a piece with its native event; pings are the gateway's own."""
        if not isinstance(data, dict) or data.get("type") == "ping":
            return piece
        block = data.get("content_block")
        ids = [call.id for call in piece.tool_calls if call.id is not None]
        self._is_native = self._is_native and (not ids or (isinstance(block, dict) and ids == [block.get("id")]))
        if not self._is_native:
            return piece
        message = data.get("message")
        if isinstance(message, dict):
            data = {**data, "message": {**message, "model": self._model}}
        return piece.with_native((data,))


class ResponseEvents:
    """Native events of a Responses stream, with the logical model's name.

    They end with the first call that has to be put right: from there on a piece has its parsed content alone.

    Args:
        target: deployment and credential.
    """

    def __init__(self, target: CallTarget) -> None:
        self._model = target.deployment.model
        self._is_native = True

    def add(self, piece: Delta, data: Any) -> Delta:
        """Return a piece with the event that it was read from."""
        item = data.get("item") if isinstance(data, dict) else None
        ids = [call.id for call in piece.tool_calls if call.id is not None]
        is_own = not ids or (isinstance(item, dict) and ids == [item.get("call_id")])
        self._is_native = self._is_native and isinstance(data, dict) and is_own
        if not self._is_native:
            return piece
        response = data.get("response")
        if isinstance(response, dict):
            data = {**data, "response": {**response, "model": self._model}}
        return piece.with_native((data,))

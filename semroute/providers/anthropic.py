"""Adapter of Anthropic's Messages API, with extended thinking.

Sources: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/streaming.
Blocks and events of unknown kinds are not part of an answer and are skipped.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

import httpx
from pydantic import ValidationError

from semroute.config.load import place_in
from semroute.errors import BrokenStreamError, CapabilityError, MalformedResponseError
from semroute.providers.answers import NOTHING, CallIds, checked, merged
from semroute.providers.anthropic_wire import (
    AnthropicDelta,
    AnthropicEvent,
    AnthropicMessage,
    Block,
    Counts,
    finish_reason,
)
from semroute.providers.connection import authorization, read_json
from semroute.providers.error_codes import has_error, quote_reply
from semroute.providers.failures import failure_in_200
from semroute.providers.http import open_stream, post_json, read_stream, since
from semroute.providers.messages import (
    CallPart,
    Content,
    Conversation,
    InlineImage,
    LinkedImage,
    Part,
    Result,
    Role,
    SignedReasoning,
    Text,
    ToolChoice,
    Turn,
    add_extra,
    ends_with_result,
    lacks,
    parameters,
    read,
    reasons_before_result,
    schema_of,
    tool_choice,
)
from semroute.providers.native import (
    DEFAULT_MAX_TOKENS,
    MessageEvents,
    messages_body,
    native_body,
    native_headers,
    whole_message,
)
from semroute.providers.streaming import ServerSentEvent, Within
from semroute.providers.target import CallTarget
from semroute.types import (
    Completion,
    Delta,
    ReasoningBlock,
    Request,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)

# Reading of answers, whole and streamed.


@dataclass(slots=True)
class _Call:
    place: int
    id: str
    name: str
    input: object
    fragments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Thinking:
    texts: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    redacted: str | None = None

    def block(self) -> ReasoningBlock:
        return ReasoningBlock("".join(self.texts), "".join(self.signatures) or None, self.redacted)


class AnthropicAnswer:
    """Partial answer, from one message or event by event.

    Attributes:
        has_content: True once a first chunk of text or of a tool call has arrived.
        is_done: True once the server has signalled the end.
        progress: number of events with content; pings and the frames of empty texts do not count.
    """

    def __init__(self, target: CallTarget, request: Request) -> None:
        self.has_content = False
        self.is_done = False
        self.progress = 0
        self._target = target
        self._request = request
        self._has_begun = False
        self._texts: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._ids = CallIds(request)
        self._thinking: dict[int, _Thinking] = {}
        self._model: str | None = None
        self._stop_reason: str | None = None
        self._refusal: str | None = None
        self._counts = Counts()
        self._native = MessageEvents(target) if native_body(target, request) is not None else None
        self._whole: Mapping[str, object] | None = None
        self._has_other_blocks = False

    @property
    def is_whole(self) -> bool:
        """True once the message has ended.

        Its stop reason and counts, sent just before, suffice.
        """
        return self.is_done or (self._stop_reason is not None and self.usage is not None)

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Return no log probabilities: the format has none."""
        return ()

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far."""
        return self._counts.usage()

    def read(self, answer: Mapping[str, object]) -> None:
        """Read a whole message.

        Raises:
            MalformedResponseError: it is not a message.
            DispatchError: it is an error; the subclass is by its type.
        """
        if has_error(answer):
            raise failure_in_200(answer, {}, self._target)
        try:
            message = AnthropicMessage.model_validate(answer)
        except ValidationError as invalid:
            raise self._malformed("answered 200 with something that is not a message", invalid) from None
        self._begin(message)
        self.is_done = True
        self._whole = answer

    def feed(self, event: ServerSentEvent) -> Delta:
        """Read an event and return its piece of the answer.

        Raises:
            MalformedResponseError: it cannot be parsed.
            DispatchError: it is an error; the subclass is by its type.
        """
        try:
            data = read_json(event.data)
        except ValueError:
            data = event.data
        if event.event == "error" or has_error(data):
            raise failure_in_200(data, {}, self._target, streamed=True)
        try:
            parsed = AnthropicEvent.model_validate(data)
        except ValidationError as invalid:
            raise self._malformed("streamed something that is not an event", invalid) from None
        piece = self._take(parsed)
        return piece if self._native is None else self._native.add(piece, data)

    def completion(self, latency_ms: float, first_token_ms: float | None = None) -> Completion:
        """Return the whole answer.

        Raises:
            BrokenStreamError: the stream ended before the message did.
            MalformedResponseError: there was no message, or one with a tool call that cannot be parsed.
            EmptyAnswerError: the message has neither text nor a tool call.
        """
        deployment = self._target.deployment
        if not self.is_whole:
            message = f"{deployment.name}: the stream ended before the answer (no message_stop)"
            raise BrokenStreamError(message, deployment=deployment.name, status=200, usage=self.usage)
        if not self._has_begun:
            raise self._malformed("streamed no answer")
        calls = tuple(ToolCall(call.id, call.name, _arguments(call)) for call in self._calls.values())
        blocks = [thought.block() for thought in self._thinking.values()]
        completion = Completion(
            text="".join(self._texts),
            model=deployment.model,
            deployment=deployment.name,
            upstream_model=quote_reply(self._model or deployment.upstream, self._target.key),
            finish_reason=finish_reason(self._stop_reason),
            usage=self.usage,
            latency_ms=latency_ms,
            first_token_ms=first_token_ms,
            tool_calls=calls,
            refusal=self._refusal,
            reasoning="".join(block.text for block in blocks) or None,
            reasoning_blocks=tuple(block for block in blocks if block.signature or block.redacted),
        )
        if self._native is not None and self._whole is not None:
            completion = replace(completion, native=whole_message(self._target, self._whole, completion))
        if self._native is not None and self._has_other_blocks:
            return completion  # tools that run at the vendor may be all that there is yet (pause_turn)
        given = quote_reply(self._stop_reason or "not given", self._target.key)
        return checked(completion, self._target, self._request, f"stop_reason {given}")

    def _take(self, event: AnthropicEvent) -> Delta:
        match event.type:
            case "message_start" if event.message is not None:
                return self._begin(event.message)
            case "content_block_start" if event.content_block is not None:
                return self._open(event.index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                return self._extend(event.index, event.delta)
            case "content_block_stop" if event.index in self._thinking:
                block = self._thinking[event.index].block()
                return Delta(reasoning_blocks=(block,)) if block.signature or block.redacted else NOTHING
            case "message_delta":
                self.progress += 1
                self._counts.add(event.usage)
                if event.delta is not None:
                    self._stop(event.delta.stop_reason, event.delta.stop_details)
            case "message_stop":
                self.progress += 1
                self.is_done = True
        return NOTHING

    def _begin(self, message: AnthropicMessage) -> Delta:
        self._has_begun = True
        self._model = message.model
        self._counts.add(message.usage)
        self._stop(message.stop_reason, message.stop_details)
        return merged(self._open(index, block) for index, block in enumerate(message.content))

    def _open(self, index: int, block: Block) -> Delta:
        if block.type == "text":
            return self._say(block.text or "")
        self.progress += 1  # redacted thinking consists of its frame only
        if block.type == "tool_use":
            if not block.name:
                raise self._malformed("answered with a tool call that has no name")
            id = self._ids.next(block.id or "", block.name)
            # A call at the index of another takes its place.
            replaced = self._calls.get(index)
            place = len(self._calls) if replaced is None else replaced.place
            self._calls[index] = _Call(place, id, block.name, block.input)
            self.has_content = True
            return Delta(tool_calls=(ToolCallDelta(place, id, block.name, type="function"),))
        if block.type in ("thinking", "redacted_thinking"):
            self._thinking[index] = _Thinking(redacted=block.data if block.type == "redacted_thinking" else None)
            return self._think(index, block.thinking, block.signature)
        self._has_other_blocks = True
        return NOTHING

    def _extend(self, index: int, delta: AnthropicDelta) -> Delta:
        if delta.type == "text_delta":
            return self._say(delta.text or "")
        self.progress += 1
        if delta.type == "input_json_delta" and delta.partial_json and index in self._calls:
            self._calls[index].fragments.append(delta.partial_json)
            return Delta(tool_calls=(ToolCallDelta(self._calls[index].place, arguments=delta.partial_json),))
        if delta.type in ("thinking_delta", "signature_delta"):
            return self._think(index, delta.thinking, delta.signature)
        return NOTHING

    def _think(self, index: int, text: str | None, signature: str | None) -> Delta:
        thought = self._thinking.setdefault(index, _Thinking())
        if text:
            thought.texts.append(text)
        if signature:
            thought.signatures.append(signature)
        return Delta(reasoning=text) if text else NOTHING

    def _say(self, text: str) -> Delta:
        if not text:
            return NOTHING
        self._texts.append(text)
        self.has_content = True
        self.progress += 1
        return Delta(text)

    def _stop(self, reason: str | None, details: object) -> None:
        self._stop_reason = reason or self._stop_reason
        explanation = details.get("explanation") if isinstance(details, Mapping) else None
        if isinstance(explanation, str) and explanation:
            self._refusal = explanation

    def _malformed(self, what: str, invalid: ValidationError | None = None) -> MalformedResponseError:
        deployment = self._target.deployment
        where = "" if invalid is None else f" ({_place(invalid)})"
        return MalformedResponseError(
            f"{deployment.name} {what}{where}", deployment=deployment.name, status=200, usage=self.usage
        )


def _arguments(call: _Call) -> str:
    """Return the arguments of a call as JSON text.

    Streamed text takes precedence, since a stream starts every call with an empty input.
    """
    return "".join(call.fragments) or json.dumps(call.input or {}, ensure_ascii=False)


def _place(invalid: ValidationError) -> str:
    return place_in(invalid) or "not an object"


# Anthropic's extended thinking.
#
# Source: https://platform.claude.com/docs/en/build-with-claude/extended-thinking, which also lists incompatibilities.

ANSWER_TOKENS = 8192
"""Tokens for the answer on top of the thinking budget, if the request names no limit: ``max_tokens`` bounds both."""

_LEAST_TOP_P = 0.95


def thinking(named: Mapping[str, object], request: Request, target: CallTarget) -> dict[str, object]:
    """Return the body fields for thinking; none if the model may decide.

    Raises:
        CapabilityError: thinking is incompatible with another parameter of the request.
    """
    if _is_disabled(named):
        return {"thinking": {"type": "disabled"}}
    budget = named.get("thinking_budget")
    if not isinstance(budget, int):
        return {}
    if reasons := list(_against(budget, request)):
        if "thinking_budget" in request.droppable:
            return {}
        name = target.deployment.name
        raise CapabilityError(f"{name}: Anthropic takes no thinking_budget {'; nor '.join(reasons)}", deployment=name)
    if budget < 0:
        return {"thinking": {"type": "adaptive"}}
    limit = {"max_tokens": budget + ANSWER_TOKENS} if request.max_tokens is None else {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}, **limit}


def _is_disabled(named: Mapping[str, object]) -> bool:
    budget = named.get("thinking_budget")
    return budget == 0 or (budget is None and named.get("reasoning_effort") == "none")


def _against(budget: int, request: Request) -> Iterator[str]:
    if request.max_tokens is not None and budget >= request.max_tokens:
        yield f"of {budget} within max_tokens of {request.max_tokens}: raise max_tokens"
    if request.tool_choice not in (None, "auto", "none"):
        yield "with a tool_choice that demands a call"
    if request.temperature not in (None, 1):
        yield "with a temperature other than 1"
    if request.top_k is not None:
        yield "with top_k"
    if request.top_p is not None and request.top_p < _LEAST_TOP_P:
        yield f"with a top_p below {_LEAST_TOP_P}"
    if ends_with_result(request) and not reasons_before_result(request):
        # The API requires the signed thinking before the tool call.
        yield "between a tool's result and the answer to it, without the signed reasoning of the call (thinking_blocks)"


# Request body.
#
# Structured output uses ``output_config.format``
# (https://platform.claude.com/docs/en/build-with-claude/structured-outputs): decoding is constrained to the schema, the
# answer arrives and streams as plain text, and tools remain available. The older way, a forced tool call, guarantees
# nothing and excludes other tools.

NO_TEXT = "(no text)"
"""Text of an empty user turn, since the API requires one."""

_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_MODES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any"}
_SCHEMAS = frozenset({"items", "prefixItems", "anyOf", "oneOf", "allOf"})
_SCHEMAS_BY_NAME = frozenset({"properties", "$defs", "definitions"})


def payload(target: CallTarget, request: Request, *, stream: bool = False) -> dict[str, object]:
    """Return the body of a request.

    Unset fields are left out, except ``max_tokens``. A body that the client sent in this format goes upstream as it
    came, see :mod:`~semroute.providers.native`.

    Raises:
        CapabilityError: the request needs something that this format cannot express.
        RequestError: it contains something that no provider could read.
    """
    _refuse(target, request)
    name, found = target.deployment.name, parameters(target, request, stream=stream)
    if (native := native_body(target, request)) is not None:
        return messages_body(target, request, native, found, stream=stream)
    conversation = read(request, name)
    body: dict[str, object] = {
        "model": target.deployment.upstream,
        "max_tokens": DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        "messages": _messages(conversation, request, name, with_reasoning=not _is_disabled(found.named)),
    }
    if instructions := _blocks(conversation.instructions):
        body["system"] = instructions
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if tools := [tool for tool in request.tools if tool.definition is None or "custom_tools" in found.named]:
        body["tools"] = [_tool(tool, with_strict="strict" in found.named) for tool in tools]
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
    """Return the parameters under the API's names."""
    body: dict[str, object] = {name: named[name] for name in ("temperature", "top_p", "top_k") if name in named}
    output: dict[str, object] = {}
    if (schema := schema_of(request)) is not None:
        output["format"] = {"type": "json_schema", "schema": closed(schema)}
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
    """Remove the cache markers if the request allows it."""
    for name in ("system", "tools", "messages"):
        for holder in cast("list[dict[str, Any]]", body.get(name, [])):
            holder.pop("cache_control", None)
            for block in holder["content"] if name == "messages" else ():
                block.pop("cache_control", None)
                for inner in block.get("content", ()):
                    inner.pop("cache_control", None)


def _messages(
    conversation: Conversation, request: Request, deployment: str, *, with_reasoning: bool
) -> list[dict[str, object]]:
    """Return the turns as messages, each with visible text.

    The API refuses others.

    White space alone is left out like an empty text. An empty user turn that the structure needs becomes
    :data:`NO_TEXT`: the conversation must begin with the user, and without the last turn the model would continue its
    previous answer. Signed reasoning is sent back only within the current tool loop, where the API requires it.

    Raises:
        CapabilityError: nothing is left.
    """
    messages: list[tuple[Role, list[dict[str, object]]]] = []
    loop = _loop_start(conversation.turns) if with_reasoning else len(conversation.turns)
    for place, turn in enumerate(conversation.turns):
        blocks = _blocks(turn.parts, with_reasoning=place >= loop)
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
        last[-1]["text"] = text.rstrip()  # the model continues it, and the API refuses trailing white space
    return [{"role": role, "content": blocks} for role, blocks in messages]


def closed(schema: Mapping[str, object]) -> dict[str, object]:
    """Return the schema with objects closed unless specified.

    The API requires ``additionalProperties: false``.
    """
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


def _loop_start(turns: Sequence[Turn]) -> int:
    """Return the position of the current tool loop's first turn.

    It follows the user's last own words.
    """
    for place in reversed(range(len(turns))):
        if turns[place].role == "user" and not all(isinstance(part, Result) for part in turns[place].parts):
            return place + 1
    return 0


def _blocks(parts: Iterable[Part], *, with_reasoning: bool = False) -> list[dict[str, object]]:
    found = [part for part in parts if not (isinstance(part, Text) and not part.text.strip())]
    said = [part for part in found if not isinstance(part, SignedReasoning)]
    # Reasoning alone is no message.
    return [_block(part) for part in (found if with_reasoning and said else said)]


def _block(part: Part) -> dict[str, object]:
    if isinstance(part, SignedReasoning):
        return dict(part.block)
    marker = {} if part.cache_control is None else {"cache_control": dict(part.cache_control)}
    return {**_unmarked(part), **marker}


def _unmarked(part: Content) -> dict[str, object]:
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
            failed = {"is_error": True} if part.is_error else {}
            return {"type": "tool_result", "tool_use_id": _id(id), "content": _blocks(content), **failed}


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _id(id: str) -> str:
    """Return a call's id in Anthropic's alphabet.

    The call may be another provider's.
    """
    return _NOT_IN_AN_ID.sub("_", id)


def _tool(tool: Tool, *, with_strict: bool) -> dict[str, object]:
    if tool.definition is not None:
        return dict(tool.definition)
    described = {"description": tool.description} if tool.description else {}
    # https://platform.claude.com/docs/en/agents-and-tools/tool-use/strict-tool-use
    strict = {"strict": True} if tool.strict and with_strict else {}
    marker = {"cache_control": dict(tool.cache_control)} if tool.cache_control else {}
    return {"name": tool.name, **described, "input_schema": {"type": "object", **tool.parameters}, **strict, **marker}


def _choice(choice: ToolChoice) -> dict[str, object]:
    if choice.name is not None:
        return {"type": "tool", "name": choice.name}
    return {"type": _MODES[choice.mode]}


# Calls.


PATH = "/v1/messages"
VERSION = "2023-06-01"
"""Version of the API; all later changes were additions."""


async def complete(client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within) -> Completion:
    """Request one whole answer.

    See :class:`~semroute.providers.adapter.Adapter`.

    Raises:
        CapabilityError: the request needs something that the format cannot express.
        MalformedResponseError: a success that is not a message.
        DispatchError: other subclasses, by the kind of failure.
    """
    started = time.perf_counter()
    body = payload(target, request)
    answer = AnthropicAnswer(target, request)
    answer.read(await post_json(client, target, PATH, body, headers=_headers(target, request), within_s=within_s))
    return answer.completion(since(started))


async def stream(
    client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
) -> AsyncGenerator[Delta | Completion]:
    """Request a streamed answer.

    See :class:`~semroute.providers.adapter.Adapter`. Errors are those of :func:`complete`, with the tokens counted
    until then in ``usage``.

    Raises:
        BrokenStreamError: the stream ended before the answer did.
    """
    started = time.perf_counter()
    body = payload(target, request, stream=True)
    headers, answer = _headers(target, request), AnthropicAnswer(target, request)
    events = open_stream(
        client, target, PATH, body, headers=headers, within_s=within_s, progress=lambda: answer.progress
    )
    async with aclosing(read_stream(events, answer, started)) as pieces:
        async for piece in pieces:
            yield piece


def _headers(target: CallTarget, request: Request) -> dict[str, str]:
    return {**native_headers(target, request), "anthropic-version": VERSION, **authorization(target)}

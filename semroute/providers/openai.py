"""Adapter of OpenAI's chat completions: requests, answers, streams.

Most servers use this format (Azure, vLLM, Ollama, llama.cpp, gateways). The wire models are in
:mod:`~semroute.providers.openai_wire`.

Sources: https://platform.openai.com/docs/api-reference/chat/create; Azure:
https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

import httpx
from pydantic import ValidationError

from semroute.catalog import Parameters
from semroute.catalog.parameters import MARKERS
from semroute.config.load import place_in
from semroute.errors import (
    BrokenStreamError,
    CapabilityError,
    ContentFilterError,
    MalformedResponseError,
    RequestError,
    UnavailableError,
)
from semroute.providers import openai_wire
from semroute.providers.answers import NOTHING, CallIds, checked, combined, is_blank, merge_usage, merged, with_ids
from semroute.providers.connection import authorization, read_json
from semroute.providers.error_codes import has_error, quote_reply
from semroute.providers.failures import failure_in_200
from semroute.providers.http import open_stream, post_json, read_stream, since
from semroute.providers.messages import add_extra, called_name, lacks, parameters, signature
from semroute.providers.native import ChatEvents, chat_body, native_body, native_headers, whole_chat
from semroute.providers.openai_wire import MessageWriter
from semroute.providers.streaming import CallClock, ServerSentEvent, Within
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, Request, TokenLogprob, Tool, ToolCallDelta, Usage
from semroute.types.openai import MODES

_NOT_STRICT = frozenset({"allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"})


def payload(target: CallTarget, request: Request, *, stream: bool = False) -> dict[str, object]:
    """Return the body of a request; unset fields are left out.

    A body that the client sent in this format goes upstream as it came, see :mod:`~semroute.providers.native`.

    Raises:
        CapabilityError: the request needs a feature that the vendor does not support, or several streamed answers.
        RequestError: a field has a shape that no server would accept.
    """
    if missing := lacks(target, request):
        name = target.deployment.name
        raise CapabilityError(f"{name}: {target.deployment.provider} lacks {', '.join(missing)}", deployment=name)
    found = parameters(target, request, stream=stream)
    if (native := native_body(target, request)) is not None:
        return chat_body(target, request, native, found, limit=_limit_name(target), stream=stream)
    messages = _messages(target, request, with_cache="cache_control" in found.named)
    body: dict[str, object] = {"model": target.deployment.upstream, "messages": messages}
    if request.max_tokens is not None:
        body[_limit_name(target)] = request.max_tokens
    if request.stop:
        body["stop"] = [request.stop] if isinstance(request.stop, str) else list(request.stop)
    if tools := [tool for item in request.tools if (tool := _tool(target, item, found)) is not None]:
        body["tools"] = tools
    if request.tool_choice is not None and (choice := _tool_choice(target, request, found)) is not None:
        body["tool_choice"] = choice
    if request.json_schema is not None:
        body["response_format"] = _response_format(target, request)
    if request.logprobs:
        body["logprobs"] = True
    if stream:
        # Without this option OpenAI does not count the tokens of a stream.
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= _named(target, found)
    add_extra(body, found.extra, target)
    return body


def _named(target: CallTarget, found: Parameters) -> dict[str, object]:
    """Return the parameters under the vendor's names."""
    named = {name: value for name, value in found.named.items() if name not in MARKERS}
    if "seed" in named:
        named[target.deployment.vendor.seed] = named.pop("seed")
    if target.deployment.provider == "openrouter" and "thinking_budget" in named:
        # https://openrouter.ai/docs/use-cases/reasoning-tokens
        named["reasoning"] = {"max_tokens": named.pop("thinking_budget")}
    return named


def _limit_name(target: CallTarget) -> str:
    """Return the name of the token limit.

    OpenAI's reasoning models refuse ``max_tokens``; most servers without a vendor's row accept no other name.
    """
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


def _tool(target: CallTarget, tool: Tool, found: Parameters) -> dict[str, object] | None:
    """Return a tool; None for one that is no function and may be left out."""
    if not isinstance(tool, Tool) or not isinstance(tool.parameters, Mapping):
        raise _wrong(target, "a tool is not a Tool with a mapping of parameters")
    if tool.definition is not None:
        return dict(tool.definition) if "custom_tools" in found.named else None
    function: dict[str, object] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:  # absent for a function without parameters
        function["parameters"] = dict(tool.parameters)
    if tool.strict is not None and (tool.strict is False or "strict" in found.named):
        function["strict"] = tool.strict
    marker = (
        {"cache_control": dict(tool.cache_control)} if "cache_control" in found.named and tool.cache_control else {}
    )
    return {"type": "function", "function": function, **marker}


def _tool_choice(target: CallTarget, request: Request, found: Parameters) -> object:
    choice = request.tool_choice
    if isinstance(choice, Mapping) and choice.get("type") != "function":
        return dict(choice) if "allowed_tools" in found.named else None
    if choice in MODES:
        return choice
    name = called_name(choice, target.deployment.name)
    if name not in [tool.name for tool in request.tools]:
        raise _wrong(target, f"tool_choice is neither {', '.join(MODES)} nor the name of one of the tools")
    return {"type": "function", "function": {"name": name}}


def _response_format(target: CallTarget, request: Request) -> dict[str, object]:
    schema = request.json_schema
    if not isinstance(schema, Mapping):
        raise _wrong(target, "json_schema is not a mapping")
    strict = schema.get("type") == "object" and is_strict(schema)
    named = {"name": "answer", "schema": dict(schema), "strict": strict, **request.json_schema_options}
    return {"type": "json_schema", "json_schema": named}


def is_strict(schema: object) -> bool:
    """Return True if OpenAI accepts the schema in strict mode.

    Strict mode guarantees valid answers, and refuses open objects. Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(schema, list | tuple):
        return all(is_strict(part) for part in schema)
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
    return is_strict(nested) and all(is_strict(list(group.values())) for group in named if isinstance(group, Mapping))


def _wrong(target: CallTarget, message: str) -> RequestError:
    return RequestError(f"{target.deployment.name}: {message}", deployment=target.deployment.name)


# Assembly of a streamed answer.
#
# Source: https://platform.openai.com/docs/api-reference/chat-streaming


@dataclass(slots=True)
class _CallSoFar:
    """Tool call so far.

    ``sent`` is the number of pieces of its arguments that were given out, None before its ``unique_id`` was.
    """

    index: int | None
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)
    extra_content: object = None
    is_custom: bool = False
    sent: int | None = None
    unique_id: str | None = None


@dataclass(slots=True)
class Assembly:
    """Partial answer assembled from chunks.

    Attributes:
        has_choice: True once a chunk was part of an answer.
        has_content: True once any text, refusal or tool call has arrived.
        finish_reason: the server's finish reason; None until it is known.
        upstream_model: model name in the response.
        usage: the highest token counts so far.
        functions: names of the request's tools.
        ids: ids of the tool calls.
        progress: number of chunks with text, reasoning, a tool call, or the end.
    """

    has_choice: bool = False
    has_content: bool = False
    finish_reason: str | None = None
    upstream_model: str | None = None
    usage: Usage | None = None
    progress: int = 0
    functions: frozenset[str] = frozenset()
    ids: CallIds = field(default_factory=lambda: CallIds(Request(())))
    _texts: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _calls: list[_CallSoFar] = field(default_factory=list)
    _opened: int = 0  # calls whose id and name were given out: the first ones
    _thoughts: list[str] = field(default_factory=list)

    def add(self, chunk: openai_wire.Chunk) -> Delta:
        """Add a chunk and return its piece of the answer."""
        self.upstream_model = chunk.model or self.upstream_model
        self.usage = merge_usage(self.usage, openai_wire.usage(chunk.usage))
        taken = [self._take(choice) for choice in chunk.choices or () if choice.index == 0]
        return NOTHING if not taken else taken[0] if len(taken) == 1 else merged(taken)

    def answer(self) -> openai_wire.OpenAIChoice:
        """Return the assembled choice, as in an answer that is not streamed."""
        calls = [
            openai_wire.OpenAICall(
                id=call.unique_id or call.id,
                function=openai_wire.Function(name=call.name, arguments="".join(call.arguments)),
                custom=openai_wire.CustomTool(name=call.name, input="".join(call.arguments))
                if call.is_custom
                else None,
                extra_content=call.extra_content,
            )
            for call in self._calls
        ]
        text, refusal = "".join(self._texts), "".join(self._refusals)
        message = openai_wire.OpenAIMessage(
            content=text,
            refusal=refusal or None,
            tool_calls=calls or None,
            reasoning_content="".join(self._thoughts) or None,
        )
        return openai_wire.OpenAIChoice(message=message, finish_reason=self.finish_reason)

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Return the log probabilities of all tokens so far."""
        return tuple(self._logprobs)

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Return the log probabilities of the tokens from the ``start``-th on."""
        return tuple(self._logprobs[start:])

    def _take(self, choice: openai_wire.ChunkChoice) -> Delta:
        self.has_choice = True
        self.finish_reason = choice.finish_reason or self.finish_reason
        self._logprobs += openai_wire.logprobs(choice.logprobs)
        self.progress += bool(choice.finish_reason)
        delta = choice.delta
        if delta is None:
            return NOTHING
        text, thought = openai_wire.text(delta.content), openai_wire.reasoning(delta)
        if text:
            self._texts.append(text)
        if thought:
            self._thoughts.append(thought)
        if delta.refusal:
            self._refusals.append(delta.refusal)
        for piece in delta.tool_calls or ():
            self._add_call(piece)
        has_content = bool(text or delta.refusal or delta.tool_calls)
        self.has_content = self.has_content or has_content
        thinks = delta.content or delta.reasoning_content or delta.reasoning or delta.reasoning_details
        self.progress += has_content or bool(thinks)
        if not (has_content or thought):
            return NOTHING
        return Delta(text, (), tuple(self._fragments()) if delta.tool_calls else (), thought)

    def _fragments(self) -> Iterator[ToolCallDelta]:
        """Yield what is new of the calls whose names are complete.

        A name may come in pieces, and is complete once arguments or another call follow it.
        """
        for place, call in enumerate(self._calls):
            if place == self._opened:
                is_named = bool(call.name) and (any(call.arguments) or place + 1 < len(self._calls))
                if not is_named:
                    return  # calls are opened in their order
                self._opened += 1
                call.unique_id, call.sent = self.ids.next(call.id or "", call.name or ""), 0
                kind, signed = (
                    "custom" if call.is_custom else "function",
                    signature({"extra_content": call.extra_content}),
                )
                yield ToolCallDelta(place, call.unique_id, call.name, self._unsent(call), signed, kind)
            elif call.sent is not None and call.sent < len(call.arguments) and (new := self._unsent(call)):
                yield ToolCallDelta(place, arguments=new)

    @staticmethod
    def _unsent(call: _CallSoFar) -> str:
        new = "".join(call.arguments[call.sent :])
        call.sent = len(call.arguments)
        return new

    def _add_call(self, piece: openai_wire.OpenAICall) -> None:
        same = [call for call in self._calls if piece.index is None or call.index == piece.index]
        call = same[-1] if same else None
        if call is None or self._begins(piece, call):
            call = _CallSoFar(piece.index)
            self._calls.append(call)
        called = piece.called
        call.is_custom = call.is_custom or piece.custom is not None
        call.id = call.id or piece.id
        call.extra_content = call.extra_content or piece.extra_content
        call.name = self._name(call.name or "", called.name or "")
        call.arguments.append(openai_wire.as_text(called.arguments))

    def _begins(self, piece: openai_wire.OpenAICall, last: _CallSoFar) -> bool:
        """Return True if a chunk starts a new call at its index.

        Some servers number every call 0, or none, and send no ids. Then a name starts a call, unless the last call's
        arguments have started and are incomplete (the name is repeated in every chunk), or the name continues.
        """
        name, before = piece.called.name, last.name
        if not name or not before:
            return False
        if piece.id and last.id:
            return piece.id != last.id
        arguments = "".join(last.arguments)
        if arguments.strip():
            return name != before or is_json(arguments)
        if name == before or any(function.startswith(before + name) for function in self.functions):
            return False
        return not self.functions.isdisjoint((name, before)) or bool(openai_wire.as_text(piece.called.arguments))

    def _name(self, before: str, piece: str) -> str:
        """Append a chunk to a name, unless the server repeats what it has sent."""
        if before + piece in self.functions:
            return before + piece
        if piece == before or (piece.startswith(before) and piece in self.functions):
            return piece
        return before if before in self.functions else before + piece


def is_json(text: str) -> bool:
    """Return True if a text is complete JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# Conversion of an answer to a completion or an error.


def read_answer(answer: dict[str, object], target: CallTarget, request: Request, latency_ms: float) -> Completion:
    """Return the completion in a whole answer.

    Raises:
        ContentFilterError: the provider's filter left nothing of the answer.
        EmptyAnswerError: it has neither text nor a tool call nor a refusal.
        MalformedResponseError: it is not a completion.
        DispatchError: it contains an error instead of a completion.
    """
    if has_error(answer):
        raise failure_in_200(answer, {}, target)
    try:
        parsed = openai_wire.OpenAIResponse.model_validate(answer)
    except ValidationError as invalid:
        raise _malformed(f"answered 200 with something that is not a completion: {_where(invalid)}", target) from None
    choices, usage = parsed.choices[: request.n or 1], openai_wire.usage(parsed.usage)
    if choices[0].error:
        raise failure_in_200({"error": choices[0].error}, {}, target)
    completion = combined(
        partial(_completion, choice, target, request, parsed.model, usage, latency_ms) for choice in choices
    )
    native = whole_chat(target, request, answer, completion)
    return completion if native is None else replace(completion, native=native)


class StreamedAnswer:
    """Partial streamed answer: a :class:`~semroute.providers.http.Reader`.

    Attributes:
        is_done: True once ``[DONE]`` has arrived.
    """

    def __init__(self, target: CallTarget, request: Request) -> None:
        self.is_done = False
        self._target = target
        self._request = request
        functions = frozenset(tool.name for tool in request.tools)
        self._assembly = Assembly(functions=functions, ids=CallIds(request))
        self._native = ChatEvents(target) if native_body(target, request) is not None else None

    @property
    def has_content(self) -> bool:
        """True once a chunk of text, refusal or tool call has arrived."""
        return self._assembly.has_content

    @property
    def progress(self) -> int:
        """Number of chunks with content."""
        return self._assembly.progress

    @property
    def is_whole(self) -> bool:
        """True once a finish reason has arrived.

        The token counts and ``[DONE]`` may never arrive.
        """
        return self._assembly.finish_reason is not None

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far."""
        return self._assembly.usage

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Return the log probabilities of the tokens from the ``start``-th on."""
        return self._assembly.logprobs_since(start)

    def feed(self, event: ServerSentEvent) -> Delta:
        """Read an event and return its piece of the answer.

        Raises:
            DispatchError: the event is an error, or not a chunk.
        """
        if event.data.strip() in ("", "[DONE]"):
            self.is_done = bool(event.data.strip())
            return NOTHING
        data, chunk = _chunk(event, self._target)
        piece = self._assembly.add(chunk)
        return piece if self._native is None else self._native.add(piece, data)

    def completion(self, latency_ms: float, first_token_ms: float | None) -> Completion:
        """Return the whole answer.

        Raises:
            BrokenStreamError: the stream ended before the answer did.
            DispatchError: as :func:`read_answer`.
        """
        assembly, target = self._assembly, self._target
        if not (self.is_done or self.is_whole):
            message = f"{target.deployment.name}: the stream ended before the answer (no finish_reason, no [DONE])"
            raise BrokenStreamError(message, deployment=target.deployment.name, status=200)
        if not assembly.has_choice or not (self.is_whole or assembly.has_content):
            raise _malformed("streamed no answer", target, assembly.usage)
        choice, model = assembly.answer(), assembly.upstream_model
        completion = _completion(choice, target, self._request, model, assembly.usage, latency_ms, assembly.logprobs)
        return replace(completion, first_token_ms=first_token_ms)


def _chunk(event: ServerSentEvent, target: CallTarget) -> tuple[object, openai_wire.Chunk]:
    """Return an event of a stream as JSON and as a chunk.

    Raises:
        DispatchError: the event is an error, or not a chunk.
    """
    try:
        data = read_json(event.data)
    except ValueError:
        data = event.data
    if has_error(data) or event.event == "error":
        raise failure_in_200(data, {}, target, streamed=True)
    try:
        chunk = openai_wire.Chunk.model_validate(data)
    except ValidationError as invalid:
        raise _malformed(f"streamed something that is not a chunk: {_where(invalid)}", target) from None
    for choice in chunk.choices or ():
        if choice.error:
            raise failure_in_200({"error": choice.error}, {}, target, streamed=True)
    return data, chunk


def _completion(
    choice: openai_wire.OpenAIChoice,
    target: CallTarget,
    request: Request,
    upstream_model: str | None,
    usage: Usage | None,
    latency_ms: float,
    logprobs: tuple[TokenLogprob, ...] | None = None,
) -> Completion:
    deployment, message = target.deployment, choice.message
    try:
        calls = openai_wire.tool_calls(message.tool_calls or ())
    except ValueError as wrong:
        raise _malformed(f"answered 200, but {wrong}", target, usage) from None
    if choice.finish_reason in openai_wire.INTERRUPTED:
        gave_up = f"{deployment.name} gave its answer up (finish_reason {choice.finish_reason})"
        raise UnavailableError(gave_up, deployment=deployment.name, status=200, usage=usage)
    text, refusal = openai_wire.text(message.content), message.refusal or None
    reason = openai_wire.finish_reason(choice.finish_reason, calls=bool(calls), refuses=refusal is not None)
    if reason == "content_filter" and is_blank(text):
        filtered = f"{deployment.name}: the provider's content filter stopped the answer"
        raise ContentFilterError(filtered, deployment=deployment.name, status=200, usage=usage)
    completion = Completion(
        text=text,
        model=deployment.model,
        deployment=deployment.name,
        upstream_model=quote_reply(upstream_model or deployment.upstream, target.key),
        finish_reason=reason,
        usage=usage,
        latency_ms=latency_ms,
        tool_calls=with_ids(calls, request),
        refusal=refusal,
        logprobs=(openai_wire.logprobs(choice.logprobs) if logprobs is None else logprobs) or None,
        reasoning=openai_wire.reasoning(message) or None,
    )
    given = quote_reply(choice.finish_reason or "not given", target.key)
    return checked(completion, target, request, f"finish_reason {given}")


def _where(invalid: ValidationError) -> str:
    return place_in(invalid) or "not an object"


def _malformed(message: str, target: CallTarget, usage: Usage | None = None) -> MalformedResponseError:
    name = target.deployment.name
    return MalformedResponseError(f"{name} {message}", deployment=name, status=200, usage=usage)


# Calls.


PATH = "/chat/completions"


async def complete(client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within) -> Completion:
    """Request one whole answer.

    See :class:`~semroute.providers.adapter.Adapter`.

    Raises:
        ContentFilterError: the provider's filter left nothing of the answer.
        MalformedResponseError: a success that is not a completion.
        DispatchError: other subclasses, by the kind of failure.
    """
    started = time.perf_counter()
    body, headers, query = payload(target, request), _headers(target, request), _query(target)
    clock = CallClock.of(within_s)  # one for both
    while True:
        try:
            answer = await post_json(client, target, PATH, body, headers=headers, within_s=clock, query=query)
            return read_answer(answer, target, request, since(started))
        except RequestError as error:
            if not leave_out(body, request, error):
                raise


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
    answer = StreamedAnswer(target, request)
    events = _open(client, target, request, answer, within_s=within_s)
    async with aclosing(read_stream(events, answer, started)) as pieces:
        async for piece in pieces:
            yield piece


async def _open(
    client: httpx.AsyncClient, target: CallTarget, request: Request, answer: StreamedAnswer, *, within_s: Within
) -> AsyncGenerator[ServerSentEvent]:
    """Yield the events of the answer, retrying without refused parameters.

    Only droppable parameters are left out.
    """
    body, headers, query = payload(target, request, stream=True), _headers(target, request), _query(target)
    clock = CallClock.of(within_s)  # one for both
    while True:
        events = open_stream(
            client,
            target,
            PATH,
            body,
            headers=headers,
            within_s=clock,
            query=query,
            progress=lambda: answer.progress,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
            return
        except RequestError as error:
            if not leave_out(body, request, error):
                raise


def leave_out(body: dict[str, object], request: Request, error: RequestError) -> bool:
    """Drop refused parameters from a body; return False if there are none.

    Only those that may be left out are dropped.

    Models of one vendor differ: some accept no ``temperature`` but 1, and old servers have no ``stream_options``.
    """
    refused = [name for name in ("stream_options", *request.droppable) if name in body and name in str(error)]
    for name in refused:
        del body[name]
    return bool(refused)


def _headers(target: CallTarget, request: Request) -> dict[str, str]:
    return {**native_headers(target, request), **authorization(target)}


def _query(target: CallTarget) -> Mapping[str, str] | None:
    version = target.deployment.api_version
    return None if version is None else {"api-version": version}

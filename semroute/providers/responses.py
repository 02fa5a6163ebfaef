"""Adapter of OpenAI's Responses: requests, answers, streams.

Nothing is stored at the vendor, since no later request could name it: another deployment may answer that. Reasoning is
asked for in sealed form instead. The wire models are in :mod:`~semroute.providers.responses_wire`.

Sources: https://platform.openai.com/docs/api-reference/responses/create, .../responses-streaming,
https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import ValidationError

from semroute.catalog import Parameters
from semroute.config.load import place_in
from semroute.errors import (
    BrokenStreamError,
    CapabilityError,
    ContentFilterError,
    MalformedResponseError,
    RequestError,
)
from semroute.providers import responses_wire as wire
from semroute.providers.answers import NOTHING, CallIds, checked, is_blank, merge_usage, with_ids
from semroute.providers.connection import authorization, read_json
from semroute.providers.error_codes import has_error, quote_reply
from semroute.providers.failures import failure_in_200
from semroute.providers.http import open_stream, post_json, read_stream, since
from semroute.providers.messages import add_extra, called_name, lacks, parameters
from semroute.providers.native import ResponseEvents, native_body, native_headers, responses_body, whole_response
from semroute.providers.openai import is_strict, leave_out
from semroute.providers.sealed import PROCESS_ITEMS, REFUSED, SealedItems
from semroute.providers.streaming import CallClock, ServerSentEvent, Within
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, Request, TokenLogprob, ToolCall, ToolCallDelta, Usage
from semroute.types.openai import MODES

PATH = "/responses"
LOGPROBS, SEALED = "message.output_text.logprobs", "reasoning.encrypted_content"
"""Names of ``include``."""

LEAST_TOKENS = 16
"""Smallest limit of an answer that the API takes."""

_SAME = ("temperature", "top_p", "parallel_tool_calls", "service_tier", "user")
_TEXTS = {"response.output_text.delta", "response.refusal.delta"}
_THOUGHTS = {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}
_ARGUMENTS = {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
_ENDS = {"response.completed", "response.incomplete"}


def payload(target: CallTarget, request: Request, sealed: SealedItems, *, stream: bool = False) -> dict[str, object]:
    """Return the body of a request; unset fields are left out.

    A body that the client sent in this format goes upstream as it came, see :mod:`~semroute.providers.native`, without
    the items that others sealed.

    Raises:
        CapabilityError: the request needs a feature that the vendor does not support.
        RequestError: a field has a shape that no server would accept.
    """
    name = target.deployment.name
    if missing := lacks(target, request):
        raise CapabilityError(f"{name}: {target.deployment.provider} lacks {', '.join(missing)}", deployment=name)
    found = parameters(target, request, stream=stream)
    if (native := native_body(target, request)) is not None:
        body = responses_body(target, request, native, found, stream=stream)
        if request.logprobs:
            _include(body, LOGPROBS)
        if "store" not in native.body:
            _include(body, SEALED)
        sealed.keep_own(body, target)
        return body
    writer = wire.ItemWriter(name)
    items = [item for number, message in enumerate(request.messages) for item in writer.write(number, message)]
    if not items:
        raise _wrong(target, "there is no message")
    body = {"model": target.deployment.upstream, "input": items, "store": False, "include": [SEALED]}
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(request.max_tokens, LEAST_TOKENS)
    tools = [tool for tool in request.tools if tool.definition is None or "custom_tools" in found.named]
    if tools:
        body["tools"] = [wire.written_tool(tool) for tool in tools]
    if request.tool_choice is not None and (choice := _tool_choice(target, request, found)) is not None:
        body["tool_choice"] = choice
    body |= _named(target, request, found)
    if stream:
        body["stream"] = True
    return body


def _named(target: CallTarget, request: Request, found: Parameters) -> dict[str, object]:
    """Return the parameters under the format's names."""
    named, extra = found.named, dict(found.extra)
    extra.pop("store", None)  # false, as is always sent
    body: dict[str, object] = {name: named[name] for name in _SAME if name in named}
    if "reasoning_effort" in named:
        body["reasoning"] = {"effort": named["reasoning_effort"]}
    text: dict[str, object] = {"verbosity": named["verbosity"]} if "verbosity" in named else {}
    if request.json_schema is not None:
        text["format"] = _schema(target, request)
    elif isinstance(shape := extra.pop("response_format", None), Mapping):
        text["format"] = dict(shape)
    if text:
        body["text"] = text
    add_extra(body, extra, target)
    if request.logprobs or "top_logprobs" in extra:
        body["include"] = [SEALED, LOGPROBS]
    return body


def _include(body: dict[str, object], name: str) -> None:
    given = body.get("include")
    listed = given if isinstance(given, list) else []
    if name not in listed:
        body["include"] = [*listed, name]


def _tool_choice(target: CallTarget, request: Request, found: Parameters) -> object:
    choice = request.tool_choice
    if isinstance(choice, Mapping) and choice.get("type") != "function":
        return wire.written_choice(choice) if "allowed_tools" in found.named else None
    if choice in MODES:
        return choice
    name = called_name(choice, target.deployment.name)
    if name not in [tool.name for tool in request.tools]:
        raise _wrong(target, f"tool_choice is neither {', '.join(MODES)} nor the name of one of the tools")
    return {"type": "function", "name": name}


def _schema(target: CallTarget, request: Request) -> dict[str, object]:
    schema = request.json_schema
    if not isinstance(schema, Mapping):
        raise _wrong(target, "json_schema is not a mapping")
    strict = schema.get("type") == "object" and is_strict(schema)
    return {
        "type": "json_schema",
        "name": "answer",
        "schema": dict(schema),
        "strict": strict,
        **request.json_schema_options,
    }


def _wrong(target: CallTarget, message: str) -> RequestError:
    return RequestError(f"{target.deployment.name}: {message}", deployment=target.deployment.name)


# Conversion of an answer to a completion or an error.


def read_answer(answer: dict[str, object], target: CallTarget, request: Request, latency_ms: float) -> Completion:
    """Return the completion in a whole response.

    Raises:
        ContentFilterError: the provider's filter left nothing of the answer.
        EmptyAnswerError: it has neither text nor a tool call nor a refusal.
        MalformedResponseError: it is no response.
        DispatchError: the response failed.
    """
    if has_error(answer):
        raise failure_in_200(answer, {}, target)
    try:
        response = wire.ResponseObject.model_validate(answer)
    except ValidationError as invalid:
        where = place_in(invalid) or "not an object"
        raise _malformed(f"answered 200 with something that is not a response: {where}", target) from None
    if response.output is None:
        raise _malformed("answered 200 with something that is not a response: it has no output", target)
    said = _Said.of(response.output)
    completion = _completion(response, said, target, request, latency_ms)
    native = whole_response(target, request, answer, completion)
    return completion if native is None else replace(completion, native=native)


@dataclass(slots=True)
class _Said:
    """Content of an answer so far.

    ``has_own`` is true where it has items of tools that only this format has.
    """

    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    has_own: bool = False

    @classmethod
    def of(cls, items: list[wire.OutputItem]) -> _Said:
        """Return the content of the items of a whole answer."""
        said = cls(calls=[item.call for item in items if item.is_call], has_own=any(map(_is_own, items)))
        for part in wire.message_parts(items):
            said.texts.append(part.text or "")
            said.refusals.append(part.refusal or "")
            said.logprobs += wire.logprobs(part.logprobs)
        said.thoughts.append(wire.reasoning_of(items))
        return said

    def __bool__(self) -> bool:
        return any(self.texts) or any(self.refusals) or bool(self.calls)


def _is_own(item: wire.OutputItem) -> bool:
    return item.type not in ("message", "reasoning") and not item.is_call


def _completion(
    response: wire.ResponseObject, said: _Said, target: CallTarget, request: Request, latency_ms: float
) -> Completion:
    deployment, usage = target.deployment, wire.usage(response.usage)
    if not all(call.name for call in said.calls):
        raise _malformed("answered 200, but a tool call names no tool", target, usage)
    text, refusal = "".join(said.texts), "".join(said.refusals) or None
    reason = wire.finish_reason(response, calls=bool(said.calls), refuses=refusal is not None)
    if reason == "content_filter" and is_blank(text):
        filtered = f"{deployment.name}: the provider's content filter stopped the answer"
        raise ContentFilterError(filtered, deployment=deployment.name, status=200, usage=usage)
    completion = Completion(
        text=text,
        model=deployment.model,
        deployment=deployment.name,
        upstream_model=quote_reply(response.model or deployment.upstream, target.key),
        finish_reason=reason,
        usage=usage,
        latency_ms=latency_ms,
        tool_calls=with_ids(said.calls, request),
        refusal=refusal,
        logprobs=tuple(said.logprobs) or None,
        reasoning="".join(said.thoughts) or None,
    )
    if said.has_own and native_body(target, request) is not None:
        return completion  # what the vendor wants to be approved or run may be all that there is yet
    given = quote_reply(response.status or "not given", target.key)
    return checked(completion, target, request, f"status {given}")


def _malformed(message: str, target: CallTarget, usage: Usage | None = None) -> MalformedResponseError:
    name = target.deployment.name
    return MalformedResponseError(f"{name} {message}", deployment=name, status=200, usage=usage)


class StreamedResponse:
    """Partial streamed answer: a :class:`~semroute.providers.http.Reader`.

    Attributes:
        is_done: True once the event with the whole response has arrived.
        usage: tokens counted, which the last event has.
        progress: number of events with text, reasoning, a tool call, or the end.
        done: items that are complete, parsed, for the seals in them.
    """

    def __init__(self, target: CallTarget, request: Request) -> None:
        self.is_done = False
        self.usage: Usage | None = None
        self.progress = 0
        self.done: list[object] = []
        self._target = target
        self._request = request
        self._said = _Said()
        self._ids = CallIds(request)
        self._positions: dict[int, int] = {}  # of the calls, by the indexes of their items
        self._summary: tuple[int, int] | None = None
        self._response = wire.ResponseObject()
        self._native = ResponseEvents(target) if native_body(target, request) is not None else None

    @property
    def has_content(self) -> bool:
        """True once a piece of text, refusal or tool call has arrived."""
        return bool(self._said)

    @property
    def is_whole(self) -> bool:
        """True once the answer is complete."""
        return self.is_done

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Return the log probabilities of the tokens from the ``start``-th on."""
        return tuple(self._said.logprobs[start:])

    def feed(self, event: ServerSentEvent) -> Delta:
        """Read an event and return its piece of the answer.

        Raises:
            DispatchError: the event is an error, or none of the format's.
        """
        if event.data.strip() in ("", "[DONE]"):  # some servers end as in Chat Completions
            return NOTHING
        data, found = _event(event, self._target)
        piece = self._piece(found)
        self.progress += piece is not NOTHING or found.type in _ENDS
        if found.type == "response.output_item.done" and isinstance(data, dict):
            self.done.append(data.get("item"))
        return piece if self._native is None else self._native.add(piece, data)

    def completion(self, latency_ms: float, first_token_ms: float | None) -> Completion:
        """Return the whole answer.

        Raises:
            BrokenStreamError: the stream ended before the answer did.
            DispatchError: as :func:`read_answer`.
        """
        if not self.is_done:
            name = self._target.deployment.name
            message = f"{name}: the stream ended before the answer (no response.completed)"
            raise BrokenStreamError(message, deployment=name, status=200)
        completion = _completion(self._response, self._said, self._target, self._request, latency_ms)
        return replace(completion, first_token_ms=first_token_ms)

    def _piece(self, event: wire.StreamedEvent) -> Delta:
        said, text = self._said, event.delta if isinstance(event.delta, str) else ""
        if event.type in _TEXTS and text:
            if event.type == "response.refusal.delta":
                said.refusals.append(text)
                return Delta()
            said.texts.append(text)
            said.logprobs += wire.logprobs(event.logprobs)
            return Delta(text)
        if event.type in _THOUGHTS and text:
            return self._thought(event, text)
        if event.type in _ARGUMENTS:
            return self._fragment(event.output_index, text)
        if event.item is not None and event.item.is_call:
            return self._call(event.output_index, event.item, is_done=event.type == "response.output_item.done")
        if event.item is not None:
            said.has_own = said.has_own or _is_own(event.item)
        if event.response is not None:
            return self._take(event.type, event.response)
        return NOTHING

    def _thought(self, event: wire.StreamedEvent, text: str) -> Delta:
        place = (event.output_index, event.summary_index)
        if self._summary not in (None, place):
            text = "\n\n" + text
        self._summary = place
        self._said.thoughts.append(text)
        return Delta(reasoning=text)

    def _call(self, index: int, item: wire.OutputItem, *, is_done: bool) -> Delta:
        """Open a call, or return what is still missing of its arguments."""
        position = self._positions.get(index)
        if position is not None:
            if is_done:
                self._said.calls[position] = replace(self._said.calls[position], arguments=item.call.arguments)
            return NOTHING
        call = item.call
        if not call.name:
            raise _malformed("streamed a tool call that names no tool", self._target)
        given = call.arguments if is_done else ""
        call = replace(call, id=self._ids.next(call.id, call.name), arguments=given)
        position = self._positions[index] = len(self._said.calls)
        self._said.calls.append(call)
        return Delta("", (), (ToolCallDelta.opening(position, call),))

    def _fragment(self, index: int, text: str) -> Delta:
        position = self._positions.get(index)
        if position is None:
            raise _malformed("streamed arguments of a tool call that it did not open", self._target)
        call = self._said.calls[position]
        self._said.calls[position] = replace(call, arguments=call.arguments + text)
        return Delta("", (), (ToolCallDelta(position, arguments=text),)) if text else NOTHING

    def _take(self, kind: str, response: wire.ResponseObject) -> Delta:
        self.usage = merge_usage(self.usage, wire.usage(response.usage))
        if kind not in _ENDS:
            return NOTHING
        response.status = response.status or kind.removeprefix("response.")
        self.is_done, self._response = True, response
        if self._said or not response.output:
            return NOTHING
        self._said = _Said.of(response.output)  # a server that streams nothing but the whole
        said = self._said
        said.calls = list(with_ids(said.calls, self._request))
        fragments = tuple(ToolCallDelta.opening(place, call) for place, call in enumerate(said.calls))
        return Delta("".join(said.texts), (), fragments, "".join(said.thoughts))


def _event(event: ServerSentEvent, target: CallTarget) -> tuple[object, wire.StreamedEvent]:
    """Return an event of a stream, parsed and read.

    Raises:
        DispatchError: the event is an error, or none of the format's.
    """
    try:
        data = read_json(event.data)
    except ValueError:
        data = event.data
    if isinstance(data, dict) and data.get("type") == "error" and not data.get("error"):
        named = {name: data.get(name) for name in ("code", "message", "param")}
        data = {"type": "error", "error": named}
    if has_error(data) or event.event == "error":
        raise failure_in_200(data, {}, target, streamed=True)
    try:
        found = wire.StreamedEvent.model_validate(data)
    except ValidationError as invalid:
        where = place_in(invalid) or "not an object"
        raise _malformed(f"streamed something that is no event of a response: {where}", target) from None
    if found.response is not None and (found.type == "response.failed" or found.response.error):
        error = found.response.error or {"message": "the response failed"}
        raise failure_in_200({"error": error}, {}, target, streamed=True)
    return data, found


# Calls.


class ResponsesAdapter:
    """Adapter of OpenAI's Responses.

    It remembers which deployment sealed which items of the conversations, and which it refused.
    """

    def __init__(self, sealed: SealedItems = PROCESS_ITEMS) -> None:
        self._sealed = sealed

    async def complete(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> Completion:
        """Request one whole answer.

        See :class:`~semroute.providers.adapter.Adapter`.

        Raises:
            ContentFilterError: the provider's filter left nothing of the answer.
            MalformedResponseError: a success that is no response.
            DispatchError: other subclasses, by the kind of failure.
        """
        started = time.perf_counter()
        body, headers = payload(target, request, self._sealed), _headers(target, request)
        clock = CallClock.of(within_s)  # one for all
        while True:
            try:
                answer = await post_json(
                    client, target, PATH, body, headers=headers, within_s=clock, query=_query(target)
                )
            except RequestError as error:
                if not self._mend(body, request, error, target):
                    raise
                continue
            self._sealed.note(target, answer.get("output"))
            return read_answer(answer, target, request, since(started))

    async def stream(
        self, client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
    ) -> AsyncGenerator[Delta | Completion]:
        """Request a streamed answer.

        See :class:`~semroute.providers.adapter.Adapter`. Errors are those of :meth:`complete`, with the tokens counted
        until then in ``usage``.

        Raises:
            BrokenStreamError: the stream ended before the answer did.
        """
        started, answer = time.perf_counter(), StreamedResponse(target, request)
        events = self._open(client, target, request, answer, within_s=within_s)
        async with aclosing(read_stream(events, answer, started)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    self._sealed.note(target, answer.done)
                yield piece

    async def _open(
        self,
        client: httpx.AsyncClient,
        target: CallTarget,
        request: Request,
        answer: StreamedResponse,
        *,
        within_s: Within,
    ) -> AsyncGenerator[ServerSentEvent]:
        """Yield the answer's events, retrying without refused options."""
        body, headers = payload(target, request, self._sealed, stream=True), _headers(target, request)
        clock = CallClock.of(within_s)  # one for all
        while True:
            events = open_stream(
                client,
                target,
                PATH,
                body,
                headers=headers,
                within_s=clock,
                query=_query(target),
                progress=lambda: answer.progress,
            )
            try:
                async with aclosing(events):
                    async for event in events:
                        yield event
                return
            except RequestError as error:
                if not self._mend(body, request, error, target):
                    raise

    def _mend(self, body: dict[str, Any], request: Request, error: RequestError, target: CallTarget) -> bool:
        """Remove a refused option from a body; False if there is none."""
        if error.code == REFUSED and error.status == 400:
            return self._sealed.strip(body, target)
        return leave_out(body, request, error)


def _headers(target: CallTarget, request: Request) -> dict[str, str]:
    return {**native_headers(target, request), **authorization(target)}


def _query(target: CallTarget) -> Mapping[str, str] | None:
    version = target.deployment.api_version
    return None if version is None else {"api-version": version}

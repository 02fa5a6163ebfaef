"""Answers of Anthropic's Messages API put together, from a whole message or from the events of a stream.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming. Thinking, and whatever kinds of blocks and
events the API may add, are no part of an answer and are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from semroute.config.explain import place_in
from semroute.errors import BrokenStreamError, MalformedResponseError
from semroute.providers.anthropic import wire
from semroute.providers.conversation.answers import checked, with_ids
from semroute.providers.target import CallTarget
from semroute.providers.transport.http import failure_in_200, has_error, quote, read_json
from semroute.providers.transport.sse import ServerSentEvent
from semroute.types import Completion, Request, TokenLogprob, ToolCall, Usage


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    input: object
    fragments: list[str] = field(default_factory=list)


class AnthropicAnswer:
    """An answer as far as it has come: from one message, or event by event.

    Attributes:
        has_content: whether a first piece of text or of a tool call has come.
        is_done: whether the server has said that nothing more comes.
        progress: number of events that brought the message on; pings and the frames of empty texts do not.
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
        self._model: str | None = None
        self._stop_reason: str | None = None
        self._refusal: str | None = None
        self._counts = wire.Counts()

    @property
    def is_whole(self) -> bool:
        """Whether the message has ended: with its end, or with the reason and the counts that come just before."""
        return self.is_done or (self._stop_reason is not None and self.usage is not None)

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """None: the format has none."""
        return ()

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far."""
        return self._counts.usage()

    def read(self, answer: Mapping[str, object]) -> None:
        """Take a whole message in.

        Raises:
            MalformedResponseError: it is no message.
            DispatchError: it is an error, of the kind that it names.
        """
        if has_error(answer):
            raise failure_in_200(answer, {}, self._target)
        try:
            message = wire.AnthropicMessage.model_validate(answer)
        except ValidationError as invalid:
            raise self._malformed("answered 200 with something that is not a message", invalid) from None
        self._begin(message)
        self.is_done = True

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event in and return the text that it brings.

        Raises:
            MalformedResponseError: it cannot be read.
            DispatchError: it is an error, of the kind that it names.
        """
        try:
            data = read_json(event.data)
        except ValueError:
            data = event.data
        if event.event == "error" or has_error(data):
            raise failure_in_200(data, {}, self._target, streamed=True)
        try:
            parsed = wire.AnthropicEvent.model_validate(data)
        except ValidationError as invalid:
            raise self._malformed("streamed something that is not an event", invalid) from None
        return self._take(parsed)

    def completion(self, latency_ms: float, first_token_ms: float | None = None) -> Completion:
        """The whole answer.

        Raises:
            BrokenStreamError: the stream ended before the message did.
            MalformedResponseError: there was no message, or one with a tool call that cannot be read.
            EmptyAnswerError: the message has neither text nor a tool call.
        """
        deployment = self._target.deployment
        if not self.is_whole:
            message = f"{deployment.name}: the stream ended before the answer (no message_stop)"
            raise BrokenStreamError(message, deployment=deployment.name, status=200, usage=self.usage)
        if not self._has_begun:
            raise self._malformed("streamed no answer")
        calls = [ToolCall(call.id, call.name, _arguments(call)) for call in self._calls.values()]
        completion = Completion(
            text="".join(self._texts),
            model=deployment.model,
            deployment=deployment.name,
            upstream_model=quote(self._model or deployment.upstream, self._target.key),
            finish_reason=wire.finish_reason(self._stop_reason),
            usage=self.usage,
            latency_ms=latency_ms,
            first_token_ms=first_token_ms,
            tool_calls=with_ids(calls, self._request),
            refusal=self._refusal,
        )
        given = quote(self._stop_reason or "not given", self._target.key)
        return checked(completion, self._target, self._request, f"stop_reason {given}")

    def _take(self, event: wire.AnthropicEvent) -> str:
        match event.type:
            case "message_start" if event.message is not None:
                return self._begin(event.message)
            case "content_block_start" if event.content_block is not None:
                return self._open(event.index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                return self._extend(event.index, event.delta)
            case "message_delta":
                self.progress += 1
                self._counts.add(event.usage)
                if event.delta is not None:
                    self._stop(event.delta.stop_reason, event.delta.stop_details)
            case "message_stop":
                self.progress += 1
                self.is_done = True
        return ""

    def _begin(self, message: wire.AnthropicMessage) -> str:
        self._has_begun = True
        self._model = message.model
        self._counts.add(message.usage)
        self._stop(message.stop_reason, message.stop_details)
        return "".join(self._open(index, block) for index, block in enumerate(message.content))

    def _open(self, index: int, block: wire.Block) -> str:
        if block.type == "text":
            return self._say(block.text or "")
        self.progress += 1  # thinking that is kept from us shows nothing but its frame
        if block.type == "tool_use":
            if not block.name:
                raise self._malformed("answered with a tool call that has no name")
            self._calls[index] = _Call(block.id or "", block.name, block.input)
            self.has_content = True
        return ""

    def _extend(self, index: int, delta: wire.AnthropicDelta) -> str:
        if delta.type == "text_delta":
            return self._say(delta.text or "")
        self.progress += 1
        if delta.type == "input_json_delta" and index in self._calls:
            self._calls[index].fragments.append(delta.partial_json or "")
        return ""

    def _say(self, text: str) -> str:
        if text:
            self._texts.append(text)
            self.has_content = True
            self.progress += 1
        return text

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
    """The model's own words where they were streamed; a stream starts every call with an empty input."""
    return "".join(call.fragments) or json.dumps(call.input or {}, ensure_ascii=False)


def _place(invalid: ValidationError) -> str:
    return place_in(invalid) or "not an object"

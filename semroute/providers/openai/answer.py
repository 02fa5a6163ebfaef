"""What an answer in OpenAI's wire format is in ours: a completion, or the error that it tells of."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pydantic import ValidationError

from semroute.config.explain import place_in
from semroute.errors import BrokenStreamError, ContentFilterError, MalformedResponseError, UnavailableError
from semroute.providers.conversation.answers import checked, combined, is_blank, with_ids
from semroute.providers.openai import wire
from semroute.providers.openai.stream import Assembly
from semroute.providers.target import CallTarget
from semroute.providers.transport.http import failure_in_200, has_error, quote, read_json
from semroute.providers.transport.sse import ServerSentEvent
from semroute.types import Completion, Request, TokenLogprob, Usage


def read_answer(answer: dict[str, object], target: CallTarget, request: Request, latency_ms: float) -> Completion:
    """The completion in a whole answer.

    Raises:
        ContentFilterError: the provider's filter left nothing of the answer.
        EmptyAnswerError: it has neither text nor a tool call nor a refusal.
        MalformedResponseError: it is not a completion.
        DispatchError: the error that it holds in place of one.
    """
    if has_error(answer):
        raise failure_in_200(answer, {}, target)
    try:
        parsed = wire.OpenAIResponse.model_validate(answer)
    except ValidationError as invalid:
        raise _malformed(f"answered 200 with something that is not a completion: {_where(invalid)}", target) from None
    choices, usage = parsed.choices[: request.n or 1], wire.usage(parsed.usage)
    if choices[0].error:
        raise failure_in_200({"error": choices[0].error}, {}, target)
    return combined(
        partial(_completion, choice, target, request, parsed.model, usage, latency_ms) for choice in choices
    )


class StreamedAnswer:
    """A streamed answer as far as it has come: a :class:`~semroute.providers.transport.streamed.Reader`.

    Attributes:
        is_done: whether ``[DONE]`` has come.
    """

    def __init__(self, target: CallTarget, request: Request) -> None:
        self.is_done = False
        self._target = target
        self._request = request
        self._assembly = Assembly(functions=frozenset(tool.name for tool in request.tools))

    @property
    def has_content(self) -> bool:
        """Whether a first piece of text, of a refusal or of a tool call has come."""
        return self._assembly.has_content

    @property
    def progress(self) -> int:
        """Number of chunks that brought the answer on."""
        return self._assembly.progress

    @property
    def is_whole(self) -> bool:
        """Whether a finish reason has come: what is missing then, the count of tokens and ``[DONE]``, may never."""
        return self._assembly.finish_reason is not None

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far."""
        return self._assembly.usage

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Log probabilities of the tokens from the ``start``-th on."""
        return self._assembly.logprobs_since(start)

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event in and return the text that it brings.

        Raises:
            DispatchError: the event is an error, or no chunk.
        """
        if event.data.strip() in ("", "[DONE]"):
            self.is_done = bool(event.data.strip())
            return ""
        return self._assembly.add(_chunk(event, self._target))

    def completion(self, latency_ms: float, first_token_ms: float | None) -> Completion:
        """The whole answer.

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


def _chunk(event: ServerSentEvent, target: CallTarget) -> wire.Chunk:
    """What one event of a stream brings.

    Raises:
        DispatchError: the event is an error, or no chunk.
    """
    try:
        data = read_json(event.data)
    except ValueError:
        data = event.data
    if has_error(data) or event.event == "error":
        raise failure_in_200(data, {}, target, streamed=True)
    try:
        chunk = wire.Chunk.model_validate(data)
    except ValidationError as invalid:
        raise _malformed(f"streamed something that is not a chunk: {_where(invalid)}", target) from None
    for choice in chunk.choices or ():
        if choice.error:
            raise failure_in_200({"error": choice.error}, {}, target, streamed=True)
    return chunk


def _completion(
    choice: wire.OpenAIChoice,
    target: CallTarget,
    request: Request,
    upstream_model: str | None,
    usage: Usage | None,
    latency_ms: float,
    logprobs: tuple[TokenLogprob, ...] | None = None,
) -> Completion:
    deployment, message = target.deployment, choice.message
    try:
        calls = wire.tool_calls(message.tool_calls or ())
    except ValueError as wrong:
        raise _malformed(f"answered 200, but {wrong}", target, usage) from None
    if choice.finish_reason in wire.INTERRUPTED:
        gave_up = f"{deployment.name} gave its answer up (finish_reason {choice.finish_reason})"
        raise UnavailableError(gave_up, deployment=deployment.name, status=200, usage=usage)
    text, refusal = wire.text(message.content), message.refusal or None
    reason = wire.finish_reason(choice.finish_reason, calls=bool(calls), refuses=refusal is not None)
    if reason == "content_filter" and is_blank(text):
        filtered = f"{deployment.name}: the provider's content filter stopped the answer"
        raise ContentFilterError(filtered, deployment=deployment.name, status=200, usage=usage)
    completion = Completion(
        text=text,
        model=deployment.model,
        deployment=deployment.name,
        upstream_model=quote(upstream_model or deployment.upstream, target.key),
        finish_reason=reason,
        usage=usage,
        latency_ms=latency_ms,
        tool_calls=with_ids(calls, request),
        refusal=refusal,
        logprobs=(wire.logprobs(choice.logprobs) if logprobs is None else logprobs) or None,
    )
    given = quote(choice.finish_reason or "not given", target.key)
    return checked(completion, target, request, f"finish_reason {given}")


def _where(invalid: ValidationError) -> str:
    return place_in(invalid) or "not an object"


def _malformed(message: str, target: CallTarget, usage: Usage | None = None) -> MalformedResponseError:
    name = target.deployment.name
    return MalformedResponseError(f"{name} {message}", deployment=name, status=200, usage=usage)

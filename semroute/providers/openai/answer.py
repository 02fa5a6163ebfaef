"""What an answer in OpenAI's wire format is in ours: a completion, or the error that it tells of."""

from __future__ import annotations

from pydantic import ValidationError

from semroute.errors import ContentFilterError, MalformedResponseError, UnavailableError
from semroute.providers.openai import wire
from semroute.providers.openai.stream import Assembly
from semroute.providers.target import Target
from semroute.providers.transport.http import failure_in_200, has_error, quote, read_json
from semroute.providers.transport.sse import Event
from semroute.types import Completion, TokenLogprob, Usage


def read_answer(answer: dict[str, object], target: Target, latency_ms: float) -> Completion:
    """The completion in a whole answer.

    Raises:
        ContentFilterError: the provider's filter left nothing of the answer.
        MalformedResponseError: it is not a completion.
        DispatchError: the error that it holds in place of one.
    """
    if has_error(answer):
        raise failure_in_200(answer, {}, target)
    try:
        parsed = wire.Answer.model_validate(answer)
    except ValidationError as invalid:
        raise _malformed(f"answered 200 with something that is not a completion: {_where(invalid)}", target) from None
    choice = parsed.choices[0]
    if choice.error:
        raise failure_in_200({"error": choice.error}, {}, target)
    logprobs = wire.logprobs(choice.logprobs)
    return _completion(choice, target, parsed.model, wire.usage(parsed.usage), logprobs, latency_ms)


def read_chunk(event: Event, target: Target) -> wire.Chunk:
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


def read_stream_end(assembly: Assembly, target: Target, latency_ms: float, first_token_ms: float | None) -> Completion:
    """The completion that a stream has brought.

    Raises:
        DispatchError: as :func:`read_answer`.
    """
    if not assembly.has_choice or (assembly.finish_reason is None and not assembly.has_content):
        raise _malformed("streamed no answer", target, assembly.usage)
    return _completion(
        assembly.answer(),
        target,
        assembly.upstream_model,
        assembly.usage,
        assembly.logprobs,
        latency_ms,
        first_token_ms,
    )


def _completion(
    choice: wire.Choice,
    target: Target,
    upstream_model: str | None,
    usage: Usage | None,
    logprobs: tuple[TokenLogprob, ...],
    latency_ms: float,
    first_token_ms: float | None = None,
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
    if reason == "content_filter" and not text:
        filtered = f"{deployment.name}: the provider's content filter stopped the answer"
        raise ContentFilterError(filtered, deployment=deployment.name, status=200, usage=usage)
    if message.content is None and not calls and refusal is None and reason != "length":
        given = quote(choice.finish_reason or "not given", target.key)
        raise _malformed(f"answered without text (finish_reason {given})", target, usage)
    return Completion(
        text=text,
        model=deployment.model,
        deployment=deployment.name,
        upstream_model=quote(upstream_model or deployment.upstream, target.key),
        finish_reason=reason,
        usage=usage,
        latency_ms=latency_ms,
        first_token_ms=first_token_ms,
        tool_calls=calls,
        refusal=refusal,
        logprobs=logprobs or None,
    )


def _where(invalid: ValidationError) -> str:
    return ".".join(str(part) for part in invalid.errors(include_input=False)[0]["loc"]) or "not an object"


def _malformed(message: str, target: Target, usage: Usage | None = None) -> MalformedResponseError:
    name = target.deployment.name
    return MalformedResponseError(f"{name} {message}", deployment=name, status=200, usage=usage)

"""Answers of Google Gemini put together: a stream brings the same objects as a whole answer, only more of them."""

from __future__ import annotations

import json

from pydantic import ValidationError

from semroute.config.explain import place_in
from semroute.errors import BrokenStreamError, ContentFilterError, DispatchError, MalformedResponseError
from semroute.providers.conversation.answers import checked, is_blank, merge_usage, with_ids
from semroute.providers.gemini import wire
from semroute.providers.target import CallTarget
from semroute.providers.transport.http import failure_in_200, has_error, quote, read_json
from semroute.providers.transport.sse import ServerSentEvent
from semroute.types import Completion, Request, TokenLogprob, ToolCall, Usage


class GeminiAnswer:
    """An answer as far as it has come.

    Args:
        target: what was called.
        request: what was asked.
        is_streamed: whether a stream's end without a reason means that it broke.
        index: of the candidate, where several are asked for.

    Attributes:
        is_done: always False: only the stream's end says that nothing more comes.
        usage: the highest count of tokens so far.
        progress: number of pieces that brought the answer on.
    """

    is_done = False

    def __init__(self, target: CallTarget, request: Request, *, is_streamed: bool = False, index: int = 0) -> None:
        self.usage: Usage | None = None
        self.progress = 0
        self._target = target
        self._request = request
        self._is_streamed = is_streamed
        self._index = index
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._logprobs: list[TokenLogprob] = []
        self._has_begun = False
        self._finish_reason: str | None = None
        self._finish_message: str | None = None
        self._feedback: wire.Feedback | None = None
        self._model: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether a first piece of text or of a tool call has come."""
        return bool(self._texts or self._calls)

    @property
    def is_whole(self) -> bool:
        """Whether a finish reason has come."""
        return self._finish_reason is not None

    def logprobs_since(self, start: int) -> tuple[TokenLogprob, ...]:
        """Log probabilities of the tokens from the ``start``-th on."""
        return tuple(self._logprobs[start:])

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
        return self.add(data)

    def add(self, answer: object) -> str:
        """Take an answer, or the next piece of one, in and return the text that it brings.

        Raises:
            MalformedResponseError: it cannot be read.
        """
        try:
            parsed = wire.GeminiResponse.model_validate(answer)
        except ValidationError as invalid:
            where = place_in(invalid) or "not an object"
            raise self._malformed(f"answered 200 with something that is not an answer ({where})") from None
        self.usage = merge_usage(self.usage, wire.usage(parsed.usage_metadata))
        self._model = parsed.model_version or self._model
        self._feedback = parsed.prompt_feedback or self._feedback
        return "".join(self._take(candidate) for candidate in parsed.candidates or () if candidate.index == self._index)

    def completion(self, latency_ms: float, first_token_ms: float | None = None) -> Completion:
        """The whole answer.

        Raises:
            ContentFilterError: the prompt was blocked, or the filter left nothing of the answer.
            BrokenStreamError: the stream ended before the answer did.
            MalformedResponseError: there is no candidate.
            EmptyAnswerError: the candidate has neither text nor a call, as where the model failed to write one.
        """
        if (error := self._error()) is not None:
            raise error
        deployment = self._target.deployment
        completion = Completion(
            text="".join(self._texts),
            model=deployment.model,
            deployment=deployment.name,
            upstream_model=quote(self._model or deployment.upstream, self._target.key),
            finish_reason=wire.finish_reason(self._finish_reason, calls=bool(self._calls)),
            usage=self.usage,
            latency_ms=latency_ms,
            first_token_ms=first_token_ms,
            tool_calls=with_ids(self._calls, self._request),
            logprobs=tuple(self._logprobs) or None,
        )
        given = self._quoted(self._finish_reason, self._finish_message)
        return checked(completion, self._target, self._request, given)

    def _error(self) -> DispatchError | None:
        """Why what has come is no answer."""
        reason, feedback = self._finish_reason, self._feedback
        finish = wire.finish_reason(reason, calls=bool(self._calls))
        has_answer = bool(self._calls) or not is_blank("".join(self._texts))
        if not has_answer and feedback is not None and feedback.block_reason:
            return self._filtered("the prompt", feedback.block_reason, feedback.block_reason_message)
        if not has_answer and finish == "content_filter":
            return self._filtered("the answer", reason, self._finish_message)
        if reason is None and self._is_streamed:
            return self._failed(BrokenStreamError, ": the stream ended before the answer (no finishReason)")
        if not self._has_begun:
            return self._malformed("answered 200 without a candidate")
        return None

    def _take(self, candidate: wire.GeminiCandidate) -> str:
        self._has_begun = True
        reason = None if candidate.finish_reason == "FINISH_REASON_UNSPECIFIED" else candidate.finish_reason
        self._finish_reason = reason or self._finish_reason
        self._finish_message = candidate.finish_message or self._finish_message
        self._logprobs += wire.logprobs(candidate.logprobs_result)
        parts = (candidate.content and candidate.content.parts) or ()
        texts = [part.text for part in parts if part.text is not None and not part.thought]
        self._texts += filter(None, texts)
        self.progress += bool(reason) or any(part.text != "" for part in parts)
        for part in parts:
            if part.function_call is not None:
                call, arguments = part.function_call, json.dumps(part.function_call.args or {}, ensure_ascii=False)
                self._calls.append(ToolCall(call.id or "", call.name, arguments, part.thought_signature))
        return "".join(texts)

    def _filtered(self, what: str, reason: str | None, words: str | None) -> DispatchError:
        return self._failed(ContentFilterError, f": Gemini's filter stopped {what} ({self._quoted(reason, words)})")

    def _malformed(self, what: str) -> DispatchError:
        return self._failed(MalformedResponseError, f" {what}")

    def _failed(self, kind: type[DispatchError], what: str) -> DispatchError:
        name = self._target.deployment.name
        return kind(f"{name}{what}", deployment=name, status=200, usage=self.usage)

    def _quoted(self, reason: str | None, words: str | None) -> str:
        return quote(": ".join(part for part in (reason or "no finishReason", words) if part), self._target.key)

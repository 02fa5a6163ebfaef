"""Answers of Google Gemini put together: a stream brings the same objects as a whole answer, only more of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from pydantic.alias_generators import to_camel

from semroute.catalog import thinks_by_budget
from semroute.config.load import place_in
from semroute.errors import (
    BrokenStreamError,
    CapabilityError,
    ContentFilterError,
    DispatchError,
    MalformedResponseError,
)
from semroute.providers.answers import Count, checked, combined, is_blank, merge_usage, with_ids
from semroute.providers.connection import authorization, read_json
from semroute.providers.error_codes import has_error, quote_reply
from semroute.providers.failures import failure_in_200
from semroute.providers.http import open_stream, post_json, read_stream, since
from semroute.providers.messages import (
    CallPart,
    InlineImage,
    LinkedImage,
    Part,
    Result,
    Text,
    ToolChoice,
    Turn,
    add_extra,
    json_object,
    lacks,
    parameters,
    read,
    tool_choice,
)
from semroute.providers.streaming import ServerSentEvent, Within
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, FinishReason, Request, TokenLogprob, Tool, ToolCall, Usage

# Answers in the wire format of Google Gemini's ``generateContent``: what is read of them, and what it means in ours.
#
# Source: https://ai.google.dev/api/generate-content#generatecontentresponse. Fields that are zero or empty are left out
# on the wire.


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class FunctionCall(_Wire):
    """A call; AI Studio gives ids since Gemini 3."""

    name: str
    args: dict[str, Any] | None = None
    id: str | None = None


class GeminiPart(_Wire):
    """A piece of an answer; ``thought`` marks a summary of reasoning, which is no part of it."""

    text: str | None = None
    thought: bool = False
    function_call: FunctionCall | None = None
    thought_signature: str | None = None


class Content(_Wire):
    """What the model wrote; without parts where it was stopped."""

    parts: list[GeminiPart] | None = None


class GeminiCandidate(_Wire):
    """An answer; only the first is asked for."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0
    logprobs_result: Any = None


class Feedback(_Wire):
    """Why a prompt was blocked."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class GeminiResponse(_Wire):
    """``GenerateContentResponse``: an answer, or in a stream the next piece of it."""

    candidates: list[GeminiCandidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: Any = None
    model_version: str | None = None
    response_id: str | None = None


class _GeminiUsage(_Wire):
    prompt_token_count: Count
    cached_content_token_count: Count = 0
    candidates_token_count: Count = 0
    thoughts_token_count: Count = 0
    tool_use_prompt_token_count: Count = 0


class _GeminiLogprob(_Wire):
    token: str = ""
    log_probability: FiniteFloat = 0.0


class _GeminiLogprobs(_Wire):
    chosen_candidates: list[_GeminiLogprob]


_FINISH_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
"""``MALFORMED_FUNCTION_CALL`` and what is not known here are "other"."""


def finish_reason(reason: str | None, *, calls: bool) -> FinishReason:
    """Why the model stopped, in our vocabulary; Gemini ends a call of tools with STOP."""
    known = _FINISH_REASONS.get(reason or "", "other")
    return "tool_calls" if known == "stop" and calls else known


def usage(value: object) -> Usage | None:
    """The counted tokens. Gemini counts thoughts beside the answer, and what is cached within the prompt."""
    try:
        counted = _GeminiUsage.model_validate(value)
    except ValidationError:
        return None
    prompt = counted.prompt_token_count + counted.tool_use_prompt_token_count
    thoughts = counted.thoughts_token_count
    return Usage(
        prompt,
        counted.candidates_token_count + thoughts,
        cached_tokens=min(counted.cached_content_token_count, prompt),
        reasoning_tokens=thoughts,
    )


def logprobs(value: object) -> tuple[TokenLogprob, ...]:
    """The tokens of an answer, or of a piece of it; empty where there are none."""
    try:
        found = _GeminiLogprobs.model_validate(value)
    except ValidationError:
        return ()
    return tuple(TokenLogprob(entry.token, entry.log_probability) for entry in found.chosen_candidates)


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
        self._feedback: Feedback | None = None
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
            parsed = GeminiResponse.model_validate(answer)
        except ValidationError as invalid:
            where = place_in(invalid) or "not an object"
            raise self._malformed(f"answered 200 with something that is not an answer ({where})") from None
        self.usage = merge_usage(self.usage, usage(parsed.usage_metadata))
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
            upstream_model=quote_reply(self._model or deployment.upstream, self._target.key),
            finish_reason=finish_reason(self._finish_reason, calls=bool(self._calls)),
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
        finish = finish_reason(reason, calls=bool(self._calls))
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

    def _take(self, candidate: GeminiCandidate) -> str:
        self._has_begun = True
        reason = None if candidate.finish_reason == "FINISH_REASON_UNSPECIFIED" else candidate.finish_reason
        self._finish_reason = reason or self._finish_reason
        self._finish_message = candidate.finish_message or self._finish_message
        self._logprobs += logprobs(candidate.logprobs_result)
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
        return quote_reply(": ".join(part for part in (reason or "no finishReason", words) if part), self._target.key)


# A request in the wire format of Google Gemini's ``generateContent``.
#
# Source: https://ai.google.dev/api/generate-content; Vertex has the same fields:
# https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference. Schemas go as JSON schema
# (``responseJsonSchema``, ``parametersJsonSchema``) and not in the older OpenAPI subset, which knows no ``$ref``.

UNSIGNED = "skip_thought_signature_validator"
"""Stands for the signature of a call that another model made, or whose signature was lost.

Source: https://ai.google.dev/gemini-api/docs/thought-signatures.
"""

_ROLES = {"user": "user", "assistant": "model"}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".heif": "image/heif",
}
_WORDS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
}
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
_OF_THE_BODY = frozenset({"safetySettings", "cachedContent", "labels", "store"})
_VERSION = re.compile(r"gemini-(\d+)")


def payload(target: CallTarget, request: Request, *, stream: bool = False) -> dict[str, object]:
    """The body of the request; what the request leaves open is left to the provider.

    Raises:
        CapabilityError: it asks for what this format cannot carry.
        RequestError: it holds what no provider could read.
    """
    name = target.deployment.name
    if missing := lacks(target, request):
        raise CapabilityError(f"{name}: Gemini's format cannot carry {', '.join(missing)}", deployment=name)
    found = parameters(target, request, stream=stream)
    conversation = read(request, name)
    wants_signatures = _wants_signatures(target.deployment.upstream)
    body: dict[str, object] = {
        "contents": [content for turn in conversation.turns for content in _contents(turn, name, wants_signatures)]
    }
    if conversation.system:
        body["systemInstruction"] = {"parts": [{"text": text} for text in conversation.system]}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
    if (choice := tool_choice(request, name)) is not None:
        body["toolConfig"] = {"functionCallingConfig": _choice(choice)}
    config = dict(_generation_config(request)) | dict(_named(found.named, target.deployment.upstream))
    add_extra(config, {key: value for key, value in found.extra.items() if key not in _OF_THE_BODY}, target)
    if config:
        body["generationConfig"] = config
    if (tier := found.named.get("service_tier")) not in (None, "auto"):
        body["serviceTier"] = "standard" if tier == "default" else tier
    add_extra(body, {key: value for key, value in found.extra.items() if key in _OF_THE_BODY}, target)
    return body


def _named(named: Mapping[str, object], upstream: str) -> Iterator[tuple[str, object]]:
    """The parameters in the API's words."""
    for name, word in _WORDS.items():
        if name in named:
            yield word, named[name]
    # https://ai.google.dev/gemini-api/docs/thinking; the budgets of an effort are those of Google's own server of
    # OpenAI's format: https://ai.google.dev/gemini-api/docs/openai#thinking
    effort = named.get("reasoning_effort")
    if "thinking_budget" in named:
        yield "thinkingConfig", {"thinkingBudget": named["thinking_budget"]}
    elif isinstance(effort, str) and effort in _BUDGETS and thinks_by_budget(upstream):
        yield "thinkingConfig", {"thinkingBudget": _BUDGETS[effort]}
    elif effort is not None:
        yield "thinkingConfig", {"thinkingLevel": effort}


def _generation_config(request: Request) -> Iterator[tuple[str, object]]:
    if request.max_tokens is not None:
        yield "maxOutputTokens", request.max_tokens
    if request.stop:
        yield "stopSequences", list(request.stop)
    if request.json_schema is not None:
        yield "responseMimeType", "application/json"
        yield "responseJsonSchema", dict(request.json_schema)
    if request.logprobs:
        yield "responseLogprobs", True


def _contents(turn: Turn, deployment: str, wants_signatures: bool) -> Iterator[dict[str, object]]:
    """A turn as contents: results of calls stand in one of their own, as the API expects them."""
    for _, group in groupby(turn.parts, key=lambda part: isinstance(part, Result)):
        parts = [_part(part, deployment) for part in group]
        if wants_signatures:
            _sign(parts)
        yield {"role": _ROLES[turn.role], "parts": parts}


def _part(part: Part, deployment: str) -> dict[str, object]:
    match part:
        case Text(text):
            return {"text": text}
        case InlineImage(media_type, data):
            return {"inlineData": {"mimeType": media_type, "data": data}}
        case LinkedImage(url):
            return {"fileData": _file(url)}
        case CallPart(id, name, arguments, signature):
            call: dict[str, object] = {"functionCall": {"id": id, "name": name, "args": dict(arguments)}}
            return call if signature is None else {**call, "thoughtSignature": signature}
        case Result(id, name, content):
            return {"functionResponse": {"id": id, "name": name, "response": _response(content, deployment)}}


def _file(url: str) -> dict[str, object]:
    """Vertex asks for a type; where the address tells none, the server says what it makes of it."""
    media_type = _MEDIA_TYPES.get(PurePosixPath(urlsplit(url).path).suffix.lower())
    return {"fileUri": url} if media_type is None else {"mimeType": media_type, "fileUri": url}


def _response(content: Iterable[Text | InlineImage | LinkedImage], deployment: str) -> Mapping[str, object]:
    """A function's response has to be an object: the result itself where it is one, or the text as its output."""
    texts = [part.text for part in content if isinstance(part, Text)]
    if len(texts) != len(tuple(content)):
        message = f"{deployment}: a tool message holds an image, which Gemini's format cannot carry"
        raise CapabilityError(message, deployment=deployment)
    text = "\n".join(texts)
    found = json_object(text)
    return {"output": text} if found is None else found


def _wants_signatures(model: str) -> bool:
    """Since Gemini 3 a call without a signature is refused; the names ``…-latest`` stand for such models."""
    version = _VERSION.search(model)
    return model.endswith("-latest") if version is None else int(version[1]) >= 3


def _sign(parts: list[dict[str, object]]) -> None:
    """Of calls made at once only the first has a signature."""
    calls = [part for part in parts if "functionCall" in part]
    if calls and not any("thoughtSignature" in part for part in calls):
        calls[0]["thoughtSignature"] = UNSIGNED


def _tool(tool: Tool) -> dict[str, object]:
    declaration: dict[str, object] = {"name": tool.name}
    if tool.description:
        declaration["description"] = tool.description
    if tool.parameters:  # left out, it means a function without parameters
        declaration["parametersJsonSchema"] = dict(tool.parameters)
    return declaration


def _choice(choice: ToolChoice) -> dict[str, object]:
    if choice.name is None:
        return {"mode": _MODES[choice.mode]}
    return {"mode": "ANY", "allowedFunctionNames": [choice.name]}


# Calls in Google Gemini's wire format: AI Studio with a key, Vertex with a bearer token, as the vendor's row says.
#
# Source: https://ai.google.dev/api/generate-content. The body is written by :mod:`~semroute.providers.gemini`,
# the answer read by :mod:`~semroute.providers.gemini`.

__all__ = ["complete", "stream"]


async def complete(client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within) -> Completion:
    """Ask for one whole answer; see :class:`~semroute.providers.adapter.Adapter`.

    Raises:
        CapabilityError: the request asks for what the format cannot carry.
        ContentFilterError: the prompt was blocked, or the filter left nothing of the answer.
        MalformedResponseError: a success that is not an answer.
        DispatchError: the other kinds, as the failure asks for.
    """
    started = time.perf_counter()
    path, body = _path(target, "generateContent"), payload(target, request)
    found = await post_json(client, target, path, body, headers=authorization(target), within_s=within_s)
    if has_error(found):
        raise failure_in_200(found, {}, target)
    given = found.get("candidates")
    listed = given if isinstance(given, list) else []
    # A zero is left out on the wire.
    indices = {one.get("index", 0) for one in listed if isinstance(one, dict)} & set(range(request.n or 1))

    def read(index: int) -> Completion:
        answer = GeminiAnswer(target, request, index=index)
        answer.add(found)
        return answer.completion(since(started))

    return combined(partial(read, index) for index in sorted(indices) or [0])


async def stream(
    client: httpx.AsyncClient, target: CallTarget, request: Request, *, within_s: Within
) -> AsyncGenerator[Delta | Completion]:
    """Ask for an answer as it is written; see :class:`~semroute.providers.adapter.Adapter`.

    Errors are those of :func:`complete`, with the tokens that were counted until then in ``usage``.

    Raises:
        BrokenStreamError: the stream ended before the answer did.
    """
    started = time.perf_counter()
    path, body = _path(target, "streamGenerateContent"), payload(target, request, stream=True)
    headers, query = authorization(target), {"alt": "sse"}  # without it the answer is one JSON array
    answer = GeminiAnswer(target, request, is_streamed=True)
    events = open_stream(
        client, target, path, body, headers=headers, within_s=within_s, query=query, progress=lambda: answer.progress
    )
    async with aclosing(read_stream(events, answer, started)) as pieces:
        async for piece in pieces:
            yield piece


def _path(target: CallTarget, method: str) -> str:
    """Google's own lists of models call them ``models/…``; the rest of a name is one segment of the path."""
    model = target.deployment.upstream.removeprefix("models/")
    return f"/models/{quote(model, safe='')}:{method}"


# Google's Gemini, at AI Studio and Vertex.

__all__ = ["complete", "stream"]

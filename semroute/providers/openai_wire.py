"""Wire models of OpenAI's chat completions: answers and messages.

Source: https://platform.openai.com/docs/api-reference/chat/object; fields that some servers leave out or fill
differently are read leniently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from semroute.providers.answers import Count, is_count
from semroute.providers.messages import signature
from semroute.types import FinishReason, TokenLogprob, ToolCall, Usage


class OpenAIPart(BaseModel):
    """Part of list content, sent by some reasoning models; ``text`` is read."""

    type: str | None = None
    text: str | None = None
    thinking: Any = None  # Mistral's reasoning, a list of text parts


Content: TypeAlias = str | list[OpenAIPart] | None


class Function(BaseModel):
    """Function of a tool call, or a chunk of it."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CustomTool(BaseModel):
    """Custom tool of a call, or a chunk of it; its input is free text."""

    name: str | None = None
    input: str | None = None


class OpenAICall(BaseModel):
    """Tool call, or a chunk of one, identified by ``index`` in a stream."""

    index: int | None = None
    id: str | None = None
    function: Function = Function()
    custom: CustomTool | None = None
    extra_content: Any = None  # Google's, with the signature of the thought that led to the call

    @property
    def called(self) -> Function:
        """Name and arguments, those of a custom tool alike."""
        custom = self.custom
        return self.function if custom is None else Function(name=custom.name, arguments=custom.input)

    @property
    def signature(self) -> str | None:
        """Google's signature, if the server sent it."""
        return signature({"extra_content": self.extra_content})


class OpenAIMessage(BaseModel):
    """Message of an answer, or its delta in a chunk."""

    content: Content = None
    refusal: str | None = None
    tool_calls: list[OpenAICall] | None = None
    reasoning_content: Any = None  # DeepSeek, vLLM
    reasoning: Any = None  # OpenRouter, Groq, newer vLLM
    reasoning_details: Any = None  # OpenRouter


class OpenAIChoice(BaseModel):
    """Choice of an answer; ``error`` is OpenRouter's."""

    message: OpenAIMessage
    finish_reason: str | None = None
    logprobs: Any = None
    error: Any = None


class OpenAIResponse(BaseModel):
    """Whole answer (``chat.completion``)."""

    choices: list[OpenAIChoice] = Field(min_length=1)
    model: str | None = None
    usage: Any = None


class ChunkChoice(BaseModel):
    """Choice of a chunk; Azure sends some without ``delta``."""

    index: int = 0
    delta: OpenAIMessage | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    error: Any = None


class Chunk(BaseModel):
    """Chunk of an answer (``chat.completion.chunk``).

    The one with the usage has no choices.
    """

    choices: list[ChunkChoice] | None = None
    model: str | None = None
    usage: Any = None


class _Details(BaseModel):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class _OpenAIUsage(BaseModel):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: int | None = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    prompt_cache_hit_tokens: Any = None  # DeepSeek's name of cached_tokens


class _OpenAILogprob(BaseModel):
    token: str
    logprob: FiniteFloat


class _OpenAILogprobs(BaseModel):
    content: list[_OpenAILogprob] = Field(min_length=1)


_FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral: the context is full
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "refusal",
}


INTERRUPTED = frozenset({"abort", "error", "insufficient_system_resource"})
"""Finish reasons of an answer that the server aborted: vLLM's, OpenRouter's, DeepSeek's."""


def finish_reason(reason: str | None, *, calls: bool, refuses: bool) -> FinishReason | None:
    """Map the server's finish reason to ours; None if there is none.

    A named ``tool_choice`` ends with "stop" at OpenAI although the model calls a tool, and a refusal always does.
    """
    known = None if reason is None else _FINISH_REASONS.get(reason, "other")
    if known in ("stop", None) and refuses:
        return "refusal"
    if known in ("stop", None) and calls:
        return "tool_calls"
    return known


def text(content: Content) -> str:
    """Return the text of content in any shape."""
    if isinstance(content, str):
        return content
    return "".join(part.text or "" for part in content or () if part.type in ("text", None))


def reasoning(message: OpenAIMessage) -> str:
    """Return the reasoning of an answer or chunk, whatever its field; or ""."""
    has_fields = message.reasoning_content or message.reasoning or message.reasoning_details
    if not has_fields and not isinstance(message.content, list):
        return ""  # as nearly every chunk
    for given in (message.reasoning_content, message.reasoning):
        if isinstance(given, str) and given:
            return given
    found: list[object] = []
    for detail in message.reasoning_details if isinstance(message.reasoning_details, list) else ():
        if isinstance(detail, Mapping):
            found.append(detail.get("text") or detail.get("summary"))
    for part in message.content if isinstance(message.content, list) else ():
        inner = part.thinking if isinstance(part.thinking, list) else [{"text": part.thinking}]
        found += [piece.get("text") for piece in inner if isinstance(piece, Mapping)]
    return "".join(text for text in found if isinstance(text, str))


def tool_calls(calls: Sequence[OpenAICall]) -> tuple[ToolCall, ...]:
    """Convert the tool calls of an answer; a missing id becomes empty.

    Raises:
        ValueError: one of them names no function.
    """
    return tuple(_tool_call(call) for call in calls)


def _tool_call(call: OpenAICall) -> ToolCall:
    called, is_custom = call.called, call.custom is not None
    if not called.name:
        raise ValueError("a tool call names no function")
    arguments = as_text(called.arguments) or ("" if is_custom else "{}")
    return ToolCall(call.id or "", called.name, arguments, call.signature, "custom" if is_custom else "function")


def as_text(arguments: str | dict[str, Any] | None) -> str:
    """Return arguments as JSON text; some servers send them as an object."""
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments or ""


def usage(value: object) -> Usage | None:
    """Return the token usage; None if it is missing or invalid.

    An answer is valid without it.
    """
    if value is None:  # as in nearly every chunk
        return None
    try:
        counted = _OpenAIUsage.model_validate(value)
    except ValidationError:
        return None
    of_input, of_output = _details(counted.prompt_tokens_details), _details(counted.completion_tokens_details)
    input_tokens, output_tokens = counted.prompt_tokens, counted.completion_tokens
    cached = of_input.cached_tokens or _count(counted.prompt_cache_hit_tokens)
    reasoning = of_output.reasoning_tokens or 0
    if counted.total_tokens == input_tokens + output_tokens + reasoning:
        output_tokens += reasoning  # xAI counts reasoning separately, the others as part of the answer
    return Usage(
        input_tokens,
        output_tokens,
        cached_tokens=min(cached, input_tokens),
        cache_write_tokens=min(of_input.cache_write_tokens or 0, input_tokens),
        reasoning_tokens=min(reasoning, output_tokens),
    )


def logprobs(value: object) -> tuple[TokenLogprob, ...]:
    """Return the log probabilities of an answer or chunk, if any."""
    if value is None:
        return ()
    try:
        found = _OpenAILogprobs.model_validate(value)
    except ValidationError:
        return ()
    return tuple(TokenLogprob(entry.token, entry.logprob) for entry in found.content)


def _details(value: object) -> _Details:
    if value is None:
        return _Details()
    try:
        return _Details.model_validate(value)
    except ValidationError:
        return _Details()


def _count(value: object) -> int:
    return value if is_count(value) else 0


# Writing of messages for servers that refuse unknown fields.
#
# An assistant's message is sent back with the next request, including whatever its vendor added: ``annotations``,
# ``reasoning_content``, ``extra_content``, ``index`` of a streamed call. Groq, Mistral, Cerebras and others answer 400
# to any of these, so the message keeps only the fields that the format defines and those that the vendor's row, or the
# deployment, names. Source: https://platform.openai.com/docs/api-reference/chat/create; a refused field:
# https://github.com/janhq/jan/issues/8136.

_ASSISTANT = frozenset({"role", "content", "name", "tool_calls"})
_CALL = frozenset({"id", "type", "function", "custom"})
_FUNCTION = frozenset({"name", "arguments"})
_REASONING_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
_PART = frozenset({"type", "text", "refusal"})


class MessageWriter:
    """Writer of messages for one vendor.

    Args:
        fields: fields of an assistant's message, beyond the format's own, that the vendor reads.
        with_cache: True if it reads ``cache_control``.
    """

    def __init__(self, fields: frozenset[str], *, with_cache: bool) -> None:
        marker = frozenset({"cache_control"}) if with_cache else frozenset()
        self._fields = fields
        self._with_cache = with_cache
        self._answer_fields, self._part_fields = _ASSISTANT | fields | marker, _PART | marker
        self._call_fields = _CALL | (fields & {"extra_content"})

    def write(self, message: Mapping[str, object]) -> dict[str, object]:
        """Return a message with the fields that the vendor accepts."""
        written = dict(message) if self._with_cache else _uncached(message)
        if written.get("role") == "tool":
            written.pop("is_error", None)  # Anthropic's; the content says it, too
        if written.get("role") != "assistant":
            return written
        known = self._answer_fields
        kept = {name: value for name, value in written.items() if name in known and (value or name == "content")}
        if not isinstance(kept.get("content", ""), str | None):
            kept["content"] = self._parts(kept["content"])
        if isinstance(audio := kept.pop("audio", None), Mapping) and "id" in audio:
            kept["audio"] = {"id": audio["id"]}  # audio of an answer is sent back by id, without the data
        if "tool_calls" in kept and isinstance(kept["tool_calls"], list | tuple):
            kept["tool_calls"] = [self._call(call) for call in kept["tool_calls"]]
        refusal = written.get("refusal")
        if refusal and "refusal" not in kept and not kept.get("content"):
            kept["content"] = refusal  # the text of a refusal, if the vendor has no field for it
        return kept

    def _parts(self, content: object) -> object:
        if not isinstance(content, Sequence):
            return content
        kept = []
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind in _REASONING_PARTS and kind not in self._fields:
                continue
            if isinstance(part, Mapping) and kind in ("text", "refusal"):
                part = {name: value for name, value in part.items() if name in self._part_fields}
            kept.append(part)
        return kept or ""

    def _call(self, call: object) -> object:
        if not isinstance(call, Mapping):
            return call
        kept = {name: value for name, value in call.items() if name in self._call_fields}
        function = kept.get("function")
        if isinstance(function, Mapping):
            kept.setdefault("type", "function")
            kept["function"] = {name: value for name, value in function.items() if name in _FUNCTION}
        return kept


def _uncached(message: Mapping[str, object]) -> dict[str, object]:
    written = {name: value for name, value in message.items() if name != "cache_control"}
    content = written.get("content")
    if isinstance(content, list | tuple):
        written["content"] = [
            {name: value for name, value in part.items() if name != "cache_control"}
            if isinstance(part, Mapping)
            else part
            for part in content
        ]
    return written


# The first validation that fails in a process takes a lock within pydantic's core. A thread that is in it while the
# process is forked would leave it taken in the child, which would wait for ever; so it happens once here, at import.
_details({"cached_tokens": "none"})
usage({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}})

"""Answers in the wire format of Google Gemini's ``generateContent``: what is read of them, and what it means in ours.

Source: https://ai.google.dev/api/generate-content#generatecontentresponse. Fields that are zero or empty are left out
on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from pydantic.alias_generators import to_camel

from semroute.providers.conversation.answers import Count
from semroute.types import FinishReason, TokenLogprob, Usage


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

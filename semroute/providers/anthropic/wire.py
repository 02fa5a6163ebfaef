"""Answers in the wire format of Anthropic's Messages API: what is read of them, and what it means in ours.

Sources: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from semroute.providers.conversation.answers import is_count
from semroute.types import FinishReason, Usage

_FINISH_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
"""``pause_turn`` and what is not known here are "other"."""
_COUNTED = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Block(BaseModel):
    """A piece of a message: ``text``, ``tool_use``, or one of which nothing is read."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class AnthropicDelta(BaseModel):
    """Of a block (``text_delta``, ``input_json_delta`` and others) or of the message (its end)."""

    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_details: Any = None


class AnthropicMessage(BaseModel):
    """A whole message, or an empty one with which a stream starts."""

    content: list[Block]
    model: str | None = None
    stop_reason: str | None = None
    stop_details: Any = None
    usage: Any = None


class AnthropicEvent(BaseModel):
    """An event of a stream; each type fills a few of the fields."""

    type: str
    index: int = 0
    message: AnthropicMessage | None = None
    content_block: Block | None = None
    delta: AnthropicDelta | None = None
    usage: Any = None


def finish_reason(reason: str | None) -> FinishReason:
    """Why the model stopped, in our vocabulary."""
    return _FINISH_REASONS.get(reason or "", "other")


class Counts:
    """The tokens of a call, counted in one or several places of its answer."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._is_doubtful = False

    def add(self, usage: object) -> None:
        """Take counts in. They only grow; a gateway may say 0 at one end of a stream and the number at the other.

        After one that cannot be a number of tokens none of them is believed.
        """
        if not isinstance(usage, Mapping):
            return
        details = usage.get("output_tokens_details")
        for counts in (usage, details if isinstance(details, Mapping) else {}):
            for name, count in counts.items():
                if is_count(count):
                    self._counts[name] = max(count, self._counts.get(name, 0))
                elif name in _COUNTED and count is not None:
                    self._is_doubtful = True

    def usage(self) -> Usage | None:
        """The counts in our vocabulary: Anthropic's input leaves out what the cache read or wrote."""
        counts = self._counts
        if self._is_doubtful or "input_tokens" not in counts or "output_tokens" not in counts:
            return None
        cached, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
        output = counts["output_tokens"]
        reasoning = min(counts.get("thinking_tokens", 0), output)
        return Usage(counts["input_tokens"] + cached + written, output, cached, written, reasoning)

"""Wire models of Anthropic's Messages API: messages, events, token counts.

Source: https://docs.anthropic.com/en/api/messages; fields that gateways leave out or fill differently are read
leniently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from semroute.providers.answers import is_count
from semroute.types import FinishReason, Usage

_FINISH_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
"""Finish reasons by stop reason; ``pause_turn`` and unknown ones are "other"."""
_COUNTED = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Block(BaseModel):
    """Content block of a message: text, tool call, reasoning, or another."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class AnthropicDelta(BaseModel):
    """Delta of a block (such as ``text_delta``) or of the message (its end)."""

    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_details: Any = None


class AnthropicMessage(BaseModel):
    """A whole message, or the empty one that starts a stream."""

    content: list[Block]
    model: str | None = None
    stop_reason: str | None = None
    stop_details: Any = None
    usage: Any = None


class AnthropicEvent(BaseModel):
    """Event of a stream; each type fills some of the fields."""

    type: str
    index: int = 0
    message: AnthropicMessage | None = None
    content_block: Block | None = None
    delta: AnthropicDelta | None = None
    usage: Any = None


def finish_reason(reason: str | None) -> FinishReason:
    """Map a stop reason of the API to our finish reason."""
    return _FINISH_REASONS.get(reason or "", "other")


class Counts:
    """Token counts of a call, from one or several parts of its answer."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._is_doubtful = False

    def add(self, usage: object) -> None:
        """Add counts, keeping the maximum of each.

        Counts only grow; a gateway may send 0 at one end of a stream and the number at the other. After one implausible
        count all counts are discarded.
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
        """Return the token usage.

        Anthropic's input count excludes cache reads and writes.
        """
        counts = self._counts
        if self._is_doubtful or "input_tokens" not in counts or "output_tokens" not in counts:
            return None
        cached, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
        output = counts["output_tokens"]
        reasoning = min(counts.get("thinking_tokens", 0), output)
        return Usage(counts["input_tokens"] + cached + written, output, cached, written, reasoning)

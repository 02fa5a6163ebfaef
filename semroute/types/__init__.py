"""The words of semroute as types; imports nothing of ours.

Values are frozen dataclasses. Protocols are what one layer asks of another, so that siblings need
not import each other.
"""

from __future__ import annotations

from semroute.types.decision import CategoryScore, Decision
from semroute.types.exchange import (
    Attempt,
    Completion,
    Cost,
    Delta,
    FinishReason,
    Message,
    Query,
    Request,
    TokenLogprob,
    Tool,
    ToolCall,
    Usage,
)
from semroute.types.gates import BreakerState, Ending, Gates, Pass, Place, Refusal, Standing
from semroute.types.vectors import CategoryScorer, Encoder, Head, Matrix

__all__ = [
    "Attempt",
    "BreakerState",
    "CategoryScore",
    "CategoryScorer",
    "Completion",
    "Cost",
    "Decision",
    "Delta",
    "Encoder",
    "Ending",
    "FinishReason",
    "Gates",
    "Head",
    "Matrix",
    "Message",
    "Pass",
    "Place",
    "Query",
    "Refusal",
    "Request",
    "Standing",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "Usage",
]

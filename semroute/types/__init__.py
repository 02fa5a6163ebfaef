"""The words of semroute as types; imports nothing of ours.

Values are frozen dataclasses. Protocols are what one layer asks of another, so that siblings need
not import each other.
"""

from __future__ import annotations

from semroute.types.attempt import Attempt, Cost, Usage, total_cost
from semroute.types.caller import Caller, Outlook
from semroute.types.decision import TRIAL, CategoryScore, Decision, Draw, Opinion, OpinionKind
from semroute.types.exchange import (
    Alternative,
    Checked,
    Completion,
    Delta,
    FinishReason,
    Message,
    Query,
    Request,
    TokenLogprob,
    Tool,
    ToolCall,
    Trial,
    tier_words,
)
from semroute.types.gates import BreakerState, Ending, Gates, Pass, Place, Refusal, Standing
from semroute.types.outcome import (
    CallRole,
    LoggedCall,
    LoggedCheck,
    LoggedOutcome,
    LoggedTrial,
    Outcome,
    OutcomeSink,
)
from semroute.types.prediction import QualityPredictor, TokenCounter
from semroute.types.scorer import AnswerScorer
from semroute.types.vectors import CategoryScorer, Encoder, Head, Matrix

__all__ = [
    "TRIAL",
    "Alternative",
    "AnswerScorer",
    "Attempt",
    "BreakerState",
    "CallRole",
    "Caller",
    "CategoryScore",
    "CategoryScorer",
    "Checked",
    "Completion",
    "Cost",
    "Decision",
    "Delta",
    "Draw",
    "Encoder",
    "Ending",
    "FinishReason",
    "Gates",
    "Head",
    "LoggedCall",
    "LoggedCheck",
    "LoggedOutcome",
    "LoggedTrial",
    "Matrix",
    "Message",
    "Opinion",
    "OpinionKind",
    "Outcome",
    "OutcomeSink",
    "Outlook",
    "Pass",
    "Place",
    "QualityPredictor",
    "Query",
    "Refusal",
    "Request",
    "Standing",
    "TokenCounter",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "Trial",
    "Usage",
    "tier_words",
    "total_cost",
]

"""The words of semroute as types; imports nothing of ours.

Values are frozen dataclasses. Protocols are what one layer asks of another, so that siblings need
not import each other.
"""

from __future__ import annotations

from semroute.types.attempt import Attempt, Cost, Usage, total_cost
from semroute.types.caller import CallEstimate, ModelClient
from semroute.types.decision import TRIAL, Assignment, CategoryScore, Decision, StrategyResult, StrategyResultKind
from semroute.types.exchange import (
    Alternative,
    CheckResult,
    Completion,
    Delta,
    FinishReason,
    Message,
    Query,
    Request,
    TierResult,
    TokenLogprob,
    Tool,
    ToolCall,
    tier_words,
)
from semroute.types.gates import AdmissionControl, BreakerState, CallResult, Endpoint, EndpointStatus, Permit, Rejection
from semroute.types.outcome import (
    CallRole,
    LoggedCall,
    LoggedCheck,
    LoggedOutcome,
    LoggedTier,
    Outcome,
    OutcomeSink,
)
from semroute.types.prediction import QualityPredictor, TokenCounter
from semroute.types.scorer import AnswerScorer
from semroute.types.vectors import CategoryScorer, Encoder, Head, Matrix

__all__ = [
    "TRIAL",
    "AdmissionControl",
    "Alternative",
    "AnswerScorer",
    "Assignment",
    "Attempt",
    "BreakerState",
    "CallEstimate",
    "CallResult",
    "CallRole",
    "CategoryScore",
    "CategoryScorer",
    "CheckResult",
    "Completion",
    "Cost",
    "Decision",
    "Delta",
    "Encoder",
    "Endpoint",
    "EndpointStatus",
    "FinishReason",
    "Head",
    "LoggedCall",
    "LoggedCheck",
    "LoggedOutcome",
    "LoggedTier",
    "Matrix",
    "Message",
    "ModelClient",
    "Outcome",
    "OutcomeSink",
    "Permit",
    "QualityPredictor",
    "Query",
    "Rejection",
    "Request",
    "StrategyResult",
    "StrategyResultKind",
    "TierResult",
    "TokenCounter",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "Usage",
    "tier_words",
    "total_cost",
]

"""The words of semroute as types; imports nothing of ours.

Values are frozen dataclasses. Protocols are what one layer asks of another, so that siblings need
not import each other.
"""

from __future__ import annotations

from semroute.types.chat import (
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
from semroute.types.decision import (
    TRIAL,
    Assignment,
    Attempt,
    CategoryScore,
    Cost,
    Decision,
    StrategyResult,
    StrategyResultKind,
    Usage,
    total_cost,
)
from semroute.types.gates import AdmissionControl, BreakerState, CallResult, Endpoint, EndpointStatus, Permit, Rejection
from semroute.types.protocols import (
    AnswerScorer,
    CallEstimate,
    CategoryScorer,
    Encoder,
    Head,
    Matrix,
    ModelClient,
    QualityPredictor,
    TokenCounter,
)
from semroute.types.records import CallRole, LoggedCall, LoggedCheck, LoggedOutcome, LoggedTier, Outcome, OutcomeSink

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

"""What is asked of a model, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from semroute.types.decision import Decision

Message: TypeAlias = Mapping[str, object]
"""One chat message in OpenAI's shape: role, content (text or a list of parts), tool_calls, tool_call_id."""

Query: TypeAlias = "str | Sequence[Message]"
"""What the user asks: a string, or the messages of a conversation."""

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "other"]
"""Why a model stopped, in one vocabulary for all providers."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call; ``parameters`` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for; ``arguments`` is JSON text, as the model wrote it.

    ``signature`` is an opaque token that Gemini wants back with the call: as ``extra_content.google.thought_signature``
    of the call in the assistant's message.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model, the same for every provider; what is left open is left to the provider.

    Attributes:
        messages: the conversation in OpenAI's shape; images are ``image_url`` parts (an address or a ``data:`` URL).
        max_tokens: longest answer, tokens.
        temperature: of sampling.
        stop: texts at which the answer ends.
        tools: functions that the model may call.
        tool_choice: ``auto``, ``none``, ``required``, or the name of a tool.
        json_schema: JSON schema that the answer has to follow.
        logprobs: whether the log probabilities of the answer's tokens are wanted.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    json_schema: Mapping[str, object] | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counted them.

    ``cached_tokens`` (read from a cache) and ``cache_write_tokens`` are parts of ``input_tokens``;
    ``reasoning_tokens`` is a part of ``output_tokens``.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost, USD; ``estimated`` where tokens were not counted by the provider."""

    usd: float
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer and its natural-log probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer, as it arrives."""

    text: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one deployment, answered or not.

    Attributes:
        deployment: its name.
        model: the logical model.
        latency_ms: wall time to the complete answer or to the error.
        status: HTTP status, where one was received.
        error: the error's message; None when it answered.
        error_kind: name of the error's class.
        credential: environment variable of the key that was used; never the key.
        first_token_ms: wall time to the first token of a stream.
        usage: tokens, where the provider counted them.
        cost: USD, None where no price is known.
        probability: with which the deployment was drawn among the candidates.
        score: parts of the choice's score, by signal.
        hedge: whether it was started beside another attempt.
        retry: whether it repeats the attempt before at the same deployment.
    """

    deployment: str
    model: str
    latency_ms: float
    status: int | None = None
    error: str | None = None
    error_kind: str | None = None
    credential: str | None = None
    first_token_ms: float | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    probability: float = 1.0
    score: Mapping[str, float] = field(default_factory=dict)
    hedge: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: the answer; empty where the model only calls tools or refuses.
        model: the logical model.
        deployment: name of the deployment that answered.
        upstream_model: name that the provider answered under.
        finish_reason: why it stopped.
        usage: None when the provider did not count.
        latency_ms: wall time to the complete answer.
        first_token_ms: wall time to the first token; None when it was not streamed.
        tool_calls: functions that the model asks to be called.
        refusal: the words with which the model refused, where the provider marks them.
        logprobs: of the answer's tokens, where they were asked for and given.
        cost: of this call alone.
        attempts: every attempt, this one last unless others were still running.
        decision: what led here, where a router decided.
    """

    text: str
    model: str
    deployment: str
    upstream_model: str
    finish_reason: str | None
    usage: Usage | None
    latency_ms: float
    attempts: tuple[Attempt, ...] = ()
    decision: Decision | None = None
    first_token_ms: float | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    cost: Cost | None = None

    @property
    def total_cost(self) -> Cost | None:
        """Cost of every attempt together; None where no attempt's cost is known."""
        costs = [attempt.cost for attempt in self.attempts if attempt.cost is not None]
        if not costs:
            return self.cost
        return Cost(sum(cost.usd for cost in costs), any(cost.estimated for cost in costs))

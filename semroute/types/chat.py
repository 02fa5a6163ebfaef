"""Chat requests, completions, and results of cascade tiers and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from semroute.types.decision import Attempt, Cost, Decision, Usage, total_cost

Message: TypeAlias = Mapping[str, object]
"""One chat message in OpenAI's shape: role, content (text or a list of parts), tool_calls, tool_call_id."""

Query: TypeAlias = "str | Sequence[Message]"
"""Query of a user: a string, or the messages of a conversation."""

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "other"]
"""Reason why a model stopped, in one vocabulary for all providers."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Tool: a function that a model may call.

    ``parameters`` is the JSON schema of its arguments.

    ``cache_control`` is Anthropic's marker that the prompt is cached up to here, as of the parts of messages.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    cache_control: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Tool call by a model; ``arguments`` is JSON text, as the model wrote it.

    ``signature`` is an opaque token that Gemini wants back with the call: as ``extra_content.google.thought_signature``
    of the call in the assistant's message.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Chat request, the same for every provider.

    Unset fields are left to the provider.

    Attributes:
        messages: the conversation in OpenAI's shape; images are ``image_url`` parts (an address or a ``data:`` URL).
        max_tokens: longest answer, tokens.
        temperature: of sampling.
        stop: texts at which the answer ends; a single text stands for itself, not for its letters.
        tools: functions that the model may call.
        tool_choice: ``auto``, ``none``, ``required``, or the name of a tool.
        json_schema: JSON schema that the answer has to follow.
        logprobs: whether the log probabilities of the answer's tokens are wanted.
        metadata: what is known of the caller, such as tenant and plan; for rules and the log, never sent to a model.
        top_p: share of the probability mass that is sampled from.
        top_k: number of tokens that are sampled from.
        seed: of sampling, for answers that repeat as far as the provider can.
        presence_penalty, frequency_penalty: on tokens that have occurred, -2 to 2.
        n: number of alternative answers, each of them charged; the others are in :attr:`Completion.alternatives`. Not
            in a stream and not in a cascade, which give and check one answer.
        reasoning_effort: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh`` or ``max``, in OpenAI's
            words; not every wire format supports all of them.
        thinking_budget: most tokens of reasoning; 0 for none, -1 leaves it to the model.
        verbosity: ``low``, ``medium`` or ``high``: how long the answer is to be.
        parallel_tool_calls: whether several calls may be made at once.
        service_tier: class of service and price, in the provider's words (``flex``, ``priority``, …).
        user: opaque identifier of the end user, for the provider's detection of abuse.
        extra: parameters of the wire format that have no field here, by their names on the wire (``logit_bias``,
            ``safetySettings``, …). Names of what has a field are refused.
        droppable: names of parameters, those of ``extra`` and ``cache_control`` among them, that may be left out where
            the deployment does not support them. Any other is a reason against a deployment whose wire format does not
            support it; none is dropped in silence.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    json_schema: Mapping[str, object] | None = None
    logprobs: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int | None = None
    reasoning_effort: str | None = None
    thinking_budget: int | None = None
    verbosity: str | None = None
    parallel_tool_calls: bool | None = None
    service_tier: str | None = None
    user: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    droppable: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Take a single text as one stop text, and not as its letters."""
        # By their types alone: what the values themselves do when they are asked is for the validation at the door.
        if issubclass(type(self.stop), str):
            object.__setattr__(self, "stop", (self.stop,) if str.__len__(cast(str, self.stop)) else ())
        if issubclass(type(self.droppable), str):
            object.__setattr__(self, "droppable", frozenset({self.droppable}))


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Token of an answer and its natural-log probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Delta:
    """Piece of a streamed answer.

    ``logprobs`` are those of its tokens, where they were asked for and given.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check of a cascade on an answer.

    Attributes:
        check: its name: ``confidence``, ``quality``, ``format`` and the like.
        accepted: whether the answer passes.
        score: estimated probability that the answer is acceptable, or what the check measured; None where it gives
            only a verdict.
        threshold: score from which it passes; None like ``score``.
        reason: one sentence for a person.
        skipped: the check, or a part of it, could not be made, for the reason given; ``accepted`` is then true, and the
            other checks judge the answer.
    """

    check: str
    accepted: bool
    reason: str
    score: float | None = None
    threshold: float | None = None
    skipped: bool = False


def tier_words(position: int, count: int | None = None) -> str:
    """Return a tier's name for people, who count from 1: ``tier 1 of 3``.

    Args:
        position: as programs count, from 0: in :class:`TierResult`, JSON, the log and paths of keys.
        count: tiers of the cascade, where they are known.
    """
    return f"tier {position + 1}" if count is None else f"tier {position + 1} of {count}"


@dataclass(frozen=True, slots=True)
class TierResult:
    """Result of one tier of a cascade: called and checked, or skipped.

    Attributes:
        tier: position in the configuration from 0, the cheapest; people read 1 (:func:`tier_words`).
        candidate: the model or group that the tier names.
        completion: its answer; None where it was skipped or failed.
        attempts: every call that was made for it, those of additional samples among them.
        checks: results of the checks on the answer.
        accepted: whether the cascade stopped here because the answer is good enough.
        reason: one sentence for a person: why it was accepted, rejected, skipped or failed.
        latency_ms: wall time of the tier with its checks.
    """

    tier: int
    candidate: str
    completion: Completion | None
    attempts: tuple[Attempt, ...]
    checks: tuple[CheckResult, ...]
    accepted: bool
    reason: str
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several answers to a request with ``n``.

    The fields are those of :class:`Completion`.
    """

    text: str
    finish_reason: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """Completion of a model.

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
        attempts: every attempt of every tier, this one last unless others were still running or a cheaper tier's
            answer was the better one.
        decision: the routing decision, where a router made one.
        trials: the tiers of the cascade, where there was one.
        tier: position from 0 of the tier whose answer this is; None where there was no cascade.
        outcome_id: name of the logged outcome, for feedback; None where nothing was logged.
        alternatives: further answers, where ``n`` asked for them; ``usage`` and ``cost`` are of all together.
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
    tiers: tuple[TierResult, ...] = ()
    tier: int | None = None
    outcome_id: str | None = None
    alternatives: tuple[Alternative, ...] = ()

    @property
    def total_cost(self) -> Cost | None:
        """Return the cost of all attempts, the judge's included.

        None where no attempt's cost is known.
        """
        deciding = () if self.decision is None else self.decision.attempts
        return total_cost((*deciding, *self.attempts)) or self.cost

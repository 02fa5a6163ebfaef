"""Chat requests, completions, and results of cascade tiers and checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from semroute.types.decision import Attempt, Cost, Decision, Usage, total_cost
from semroute.types.serialization import json_fields, json_object

Message: TypeAlias = Mapping[str, object]
"""One chat message in OpenAI's shape: role, content (text or a list of parts), tool_calls, tool_call_id."""

Query: TypeAlias = "str | Sequence[Message]"
"""Query of a user: a string, or the messages of a conversation."""

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "other"]
"""Reason why a model stopped, in one vocabulary for all providers."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Tool: a function that a model may call.

    Attributes:
        name: name of the function.
        description: its purpose, for the model.
        parameters: JSON schema of its arguments.
        cache_control: Anthropic's marker that the prompt is cached up to here, as of the parts of messages.
        strict: whether the arguments must follow the schema; None leaves it to the provider.
        definition: whole definition of a tool that is not a plain function (OpenAI's ``custom``, a vendor's own),
            sent as it is. Formats other than OpenAI's refuse it, unless the deployment ``carries`` ``custom_tools``.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    cache_control: Mapping[str, object] | None = None
    strict: bool | None = None
    definition: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Tool call by a model.

    Attributes:
        id: identifier that the result of the call names.
        name: name of the tool.
        arguments: JSON text, as the model wrote it; free text for a ``custom`` tool.
        signature: opaque token that Gemini wants back with the call: as ``extra_content.google.thought_signature`` of
            the call in the assistant's message.
        type: ``function``, or ``custom`` for OpenAI's custom tools.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None
    type: str = "function"

    def to_dict(self) -> dict[str, object]:
        """Return the call as JSON-ready values."""
        return json_fields(self)

    def to_openai(self) -> dict[str, object]:
        """Return the call as in an assistant's message of OpenAI's format."""
        called = {"name": self.name, "input" if self.type == "custom" else "arguments": self.arguments}
        call: dict[str, object] = {"id": self.id, "type": self.type, self.type: called}
        if self.signature is not None:
            call["extra_content"] = {"google": {"thought_signature": self.signature}}
        return call


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """Fragment of a tool call in a stream.

    The first fragment of a call has ``id`` and ``name``; the ``arguments`` of all its fragments, joined in order, are
    those of the :class:`ToolCall` in the completion.

    Attributes:
        index: position of the call in :attr:`Completion.tool_calls`.
        id: identifier of the call; None in later fragments.
        name: name of the tool; None in later fragments.
        arguments: next characters of the arguments.
        signature: as of :class:`ToolCall`, in one of the fragments.
        type: as of :class:`ToolCall`; None in later fragments.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    signature: str | None = None
    type: str | None = None

    @classmethod
    def opening(cls, index: int, call: ToolCall) -> ToolCallDelta:
        """Return the first fragment of a call, with the arguments so far."""
        return cls(index, call.id, call.name, call.arguments, call.signature, call.type)

    def to_dict(self) -> dict[str, object]:
        """Return the fragment as JSON-ready values."""
        return json_fields(self)


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    """Signed block of reasoning, which its vendor wants in a tool loop.

    Source: https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks.

    Attributes:
        text: the reasoning; empty where it is redacted.
        signature: the vendor's signature of it.
        redacted: encrypted reasoning, in place of the text.
    """

    text: str
    signature: str | None = None
    redacted: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the block as Anthropic's content block."""
        if self.redacted is not None:
            return {"type": "redacted_thinking", "data": self.redacted}
        return {"type": "thinking", "thinking": self.text, "signature": self.signature or ""}


@dataclass(frozen=True, slots=True)
class NativeBody:
    """Body of a request in a vendor's wire format, as a client sent it.

    A deployment of that format receives it, with its own name of the model; no other deployment receives any of it.
    Whoever changes the messages or tools of a request sets its ``native`` to None.

    Attributes:
        format: wire format, ``openai`` (Chat Completions), ``responses`` or ``anthropic`` (Messages).
        body: the parsed JSON, with its keys in the client's order.
        headers: headers that go with it: a vendor's names of beta features, never a credential.
        features: features that the fields of a request cannot say, with their paths, such as
            ``messages[0].content[1] (document)``; each is a reason against deployments of other formats.
    """

    format: str
    body: Mapping[str, object] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    features: tuple[str, ...] = ()


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
        tool_choice: ``auto``, ``none``, ``required``, or the name of a tool; OpenAI's mappings too
            (``{"type": "function", "function": {"name": …}}``, ``{"type": "allowed_tools", …}``).
        json_schema: JSON schema that the answer has to follow: a mapping, a pydantic model class, or OpenAI's
            ``response_format`` of the type ``json_schema``.
        json_schema_options: ``name``, ``description`` and ``strict`` of OpenAI's ``response_format``.
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
        native: the same request in a vendor's own format, for deployments of that format; it is no part of routing,
            logs and the ``repr``.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str | Mapping[str, object] | None = None
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
    json_schema_options: Mapping[str, object] = field(default_factory=dict)
    native: NativeBody | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Take a single text as one stop text, and not as its letters."""
        # By their types alone: what the values themselves do when they are asked is for the validation at the door.
        if issubclass(type(self.stop), str):
            object.__setattr__(self, "stop", (self.stop,) if str.__len__(cast(str, self.stop)) else ())
        if issubclass(type(self.droppable), str):
            object.__setattr__(self, "droppable", frozenset({self.droppable}))

    @classmethod
    def from_openai(
        cls, body: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None, droppable: Iterable[str] = ()
    ) -> Request:
        """Return the request in a body of OpenAI's Chat Completions.

        Nothing of the body is lost: what has a field of the request becomes that field, every other parameter stands in
        ``extra`` under its own name, and a deployment whose wire format does not support one is not called (unless
        ``droppable`` names it). ``max_completion_tokens`` is ``max_tokens``. A parameter that is null is unset, as for
        OpenAI.

        Left out are ``model``, ``stream`` and ``stream_options``: which model answers, and how, is up to the caller of
        the router, and token counts are always asked for.

        Args:
            body: the parsed JSON, or the keyword arguments of ``client.chat.completions.create``.
            metadata: metadata of the caller, for rules and the log. ``metadata`` of the body is a parameter of OpenAI's
                and stands in ``extra``.
            droppable: names of parameters that may be left out.

        Raises:
            InputError: the body cannot be used; the message names the path, such as ``tools[0].function.name``.
        """
        from semroute.types.openai import request_fields

        return cls(**request_fields(body), metadata=dict(metadata or {}), droppable=frozenset(droppable))


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Token of an answer and its natural-log probability."""

    token: str
    logprob: float


# Not frozen: one is made for every token, and a frozen dataclass of these fields takes four times as long to make.
@dataclass(slots=True, unsafe_hash=True)
class Delta:
    """Piece of a streamed answer: text, fragments of tool calls, reasoning.

    It is not to be changed: readers may share it.

    Attributes:
        text: next characters of the answer; empty in a piece that only has tool calls or reasoning.
        logprobs: log probabilities of the text's tokens, where they were asked for and given.
        tool_calls: fragments of tool calls.
        reasoning: next characters of the model's reasoning. Reasoning alone is no answer yet: another deployment may
            still take over, and its reasoning then follows. :attr:`Completion.reasoning` has only that of the answer.
        reasoning_blocks: signed blocks of reasoning that are complete with this piece; their text came before.
        native: events of the vendor's stream up to this piece, parsed, where the request had a native body and its
            deployment spoke the format; a piece may have nothing else.
    """

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    reasoning: str = ""
    reasoning_blocks: tuple[ReasoningBlock, ...] = ()
    native: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, completion: Completion) -> Delta:
        """Return a whole answer as one piece."""
        calls = (ToolCallDelta.opening(index, call) for index, call in enumerate(completion.tool_calls))
        reasoning, blocks = completion.reasoning or "", completion.reasoning_blocks
        return cls(completion.text, completion.logprobs or (), tuple(calls), reasoning, blocks)

    def with_native(self, native: tuple[Mapping[str, Any], ...]) -> Delta:
        """Return the piece with the vendor's events that it was read from."""
        # By hand: dataclasses.replace takes four times as long, for every token of a stream.
        return Delta(self.text, self.logprobs, self.tool_calls, self.reasoning, self.reasoning_blocks, native)

    @property
    def is_answer(self) -> bool:
        """True if it has a part of the answer itself: text or a tool call."""
        return bool(self.text or self.tool_calls)

    def to_dict(self) -> dict[str, object]:
        """Return the piece as JSON-ready values, without the vendor's own events."""
        found = json_fields(self)
        del found["native"]
        return found


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

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON-ready values."""
        return json_fields(self)


def tier_words(position: int, count: int | None = None) -> str:
    """Return a tier's name for people, who count from 1: ``tier 1 of 3``.

    Args:
        position: as programs count, from 0: in :class:`TierResult`, JSON, the log and paths of keys.
        count: tiers of the cascade, where they are known.
    """
    return f"tier {position + 1}" if count is None else f"tier {position + 1} of {count}"


def tier_label(candidate: str, effort: str | None) -> str:
    """Return the label of a tier: its model, and its effort if it has one."""
    return candidate if effort is None else f"{candidate} at {effort} effort"


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
        effort: reasoning effort of the tier, which the request's own takes precedence of; None where it has none.
    """

    tier: int
    candidate: str
    completion: Completion | None
    attempts: tuple[Attempt, ...]
    checks: tuple[CheckResult, ...]
    accepted: bool
    reason: str
    latency_ms: float
    effort: str | None = None

    @property
    def label(self) -> str:
        """Return what the tier calls, for people."""
        return tier_label(self.candidate, self.effort)

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON-ready values.

        Of its answer only the text, of its attempts only the cost.
        """
        cost = total_cost(self.attempts)
        return json_object(
            {
                "tier": self.tier,
                "candidate": self.candidate,
                "effort": self.effort,
                "called": self.completion is not None or bool(self.attempts),
                "accepted": self.accepted,
                "reason": self.reason,
                "checks": self.checks,
                "latency_ms": self.latency_ms,
                "cost_usd": None if cost is None else cost.usd,
                "text": None if self.completion is None else self.completion.text,
            }
        )


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
    reasoning: str | None = None
    reasoning_blocks: tuple[ReasoningBlock, ...] = ()

    @property
    def message(self) -> dict[str, object]:
        """Return the assistant's message, as :attr:`Completion.message`."""
        return _assistant_message(self)

    def to_dict(self) -> dict[str, object]:
        """Return the answer as JSON-ready values."""
        return json_fields(self)


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
        tiers: the tiers of the cascade, where there was one.
        tier: position from 0 of the tier whose answer this is; None where there was no cascade.
        outcome_id: name of the logged outcome, for feedback; None where nothing was logged.
        alternatives: further answers, where ``n`` asked for them; ``usage`` and ``cost`` are of all together.
        reasoning: the model's reasoning, or a summary of it, where the provider gives it.
        reasoning_blocks: the same in signed blocks, where the vendor wants them back (Anthropic).
        native: the vendor's own body of the answer, with the logical model's name, where the request had a native body
            and its deployment spoke the format; None for a stream.
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
    reasoning: str | None = None
    reasoning_blocks: tuple[ReasoningBlock, ...] = ()
    native: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def message(self) -> dict[str, object]:
        """Return the assistant's message of OpenAI's format.

        Appended to the messages of the next request it has all that the vendor wants back: tool calls with their
        signatures, and reasoning. Each wire format leaves out what it does not take.
        """
        return _assistant_message(self)

    @property
    def total_cost(self) -> Cost | None:
        """Return the cost of all attempts, the judge's included.

        None where no attempt's cost is known.
        """
        deciding = () if self.decision is None else self.decision.attempts
        return total_cost((*deciding, *self.attempts)) or self.cost

    def to_dict(self) -> dict[str, object]:
        """Return the completion as JSON-ready values, with all attempts' cost."""
        cost = self.total_cost
        return json_object(
            {
                "text": self.text,
                "model": self.model,
                "deployment": self.deployment,
                "upstream_model": self.upstream_model,
                "finish_reason": self.finish_reason,
                "usage": self.usage,
                "latency_ms": self.latency_ms,
                "first_token_ms": self.first_token_ms,
                "tool_calls": self.tool_calls,
                "refusal": self.refusal,
                "reasoning": self.reasoning,
                "reasoning_blocks": self.reasoning_blocks,
                "logprobs": self.logprobs,
                "alternatives": self.alternatives,
                "cost_usd": None if cost is None else cost.usd,
                "cost_is_estimated": cost is not None and cost.estimated,
                "tier": self.tier,
                "trials": self.tiers,
                "outcome_id": self.outcome_id,
                "attempts": self.attempts,
                "decision": self.decision,
            }
        )


def _assistant_message(answer: Completion | Alternative) -> dict[str, object]:
    text = answer.text or (None if answer.tool_calls or answer.refusal else "")
    message: dict[str, object] = {"role": "assistant", "content": text}
    if answer.refusal:
        message["refusal"] = answer.refusal
    if answer.tool_calls:
        message["tool_calls"] = [call.to_openai() for call in answer.tool_calls]
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.reasoning_blocks:
        message["thinking_blocks"] = [block.to_dict() for block in answer.reasoning_blocks]
    return message

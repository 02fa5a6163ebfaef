"""Request parameters, and their support by a deployment's wire format.

Sources: https://platform.openai.com/docs/api-reference/chat/create and .../responses/create,
https://docs.anthropic.com/en/api/messages,
https://platform.claude.com/docs/en/build-with-claude/effort, https://ai.google.dev/api/generate-content,
https://ai.google.dev/gemini-api/docs/thinking. Differences of a vendor's own server are in its row
(:mod:`semroute.config.deployments`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from types import MappingProxyType
from typing import TypeGuard

from semroute.config import Deployment
from semroute.config.deployments import VENDORS
from semroute.errors import RequestError
from semroute.types import Request

NAMES = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "reasoning_effort",
    "thinking_budget",
    "verbosity",
    "parallel_tool_calls",
    "service_tier",
    "user",
)
"""Parameters of a request that are its fields; those of :data:`MARKERS` are further ones."""
_values = attrgetter(*NAMES)

MARKERS = frozenset({"cache_control", "strict", "custom_tools", "allowed_tools", "stop"})
"""Parameters that are found in other fields: a cache marker, ``strict`` of a tool, tools that are no functions, a tool
choice among several tools, and texts at which the answer stops."""

MIN_THINKING = 1024
"""Smallest budget of thinking that Anthropic takes, tokens."""

MAX_TEMPERATURE = 1.0
"""End of Anthropic's scale of temperature; OpenAI's is twice as long."""

# https://platform.claude.com/docs/en/about-claude/models: from 4.7 on models refuse temperature, top_p and top_k, and
# think adaptively; a small effort is known from 4.5 on (.../docs/en/build-with-claude/effort).
_UNKNOWN, _WITH_EFFORT, _WITHOUT_SAMPLING = (0, 0), (4, 5), (4, 7)
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OWN = _names(
    """
    model messages contents stream stream_options system systemInstruction system_instruction generationConfig
    generation_config max_tokens max_completion_tokens max_output_tokens maxOutputTokens stop stop_sequences
    stopSequences tools functions tool_choice toolChoice toolConfig tool_config json_schema json_schema_options
    custom_tools allowed_tools logprobs responseLogprobs extra droppable candidateCount topP topK presencePenalty
    frequencyPenalty responseMimeType responseJsonSchema responseSchema serviceTier
    """
) | frozenset(NAMES)
"""Names that ``extra`` must not have: fields of the request, or fields that the wire format sets itself."""

_EXTRA: Mapping[str, frozenset[str]] = {
    "openai": _names(
        """
        audio function_call logit_bias metadata modalities moderation prediction prompt_cache_key prompt_cache_options
        prompt_cache_retention response_format safety_identifier store top_logprobs web_search_options
        """
    ),
    "anthropic": _names(
        """
        cache_control container context_management diagnostics inference_geo mcp_servers metadata output_config speed
        thinking user_profile_id
        """
    ),
    "gemini": _names(
        """
        safetySettings cachedContent labels store responseModalities thinkingConfig speechConfig mediaResolution
        audioTimestamp routingConfig modelSelectionConfig imageConfig enableEnhancedCivicAnswers
        """
    ),
    "responses": _names(
        """
        context_management max_tool_calls metadata moderation prompt_cache_key prompt_cache_options
        prompt_cache_retention response_format safety_identifier store top_logprobs truncation
        """
    ),
}
"""Further parameters of each vendor's own API. Other servers of OpenAI's format take names of their own, too."""

_WORDLESS: Mapping[str, frozenset[str]] = {
    "openai": frozenset(),
    "anthropic": _names("seed presence_penalty frequency_penalty n verbosity"),
    "gemini": _names("user verbosity"),
    "responses": _names("top_k seed presence_penalty frequency_penalty n thinking_budget"),
}
"""Parameters that a format's adapter does not support."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a request.

    Attributes:
        named: values of parameters among :data:`NAMES` and :data:`MARKERS`.
        extra: parameters of the wire format.
        droppable: names of parameters that may be dropped where they are not supported.
        native: wire format in which the client sent the request; None where it has none of its own.
        features: features of that body that no field of a request can say.
        left_out: names of parameters of the request that are not among these, since the deployment lacks them.
    """

    named: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    extra: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    droppable: frozenset[str] = frozenset()
    native: str | None = None
    features: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.named or self.extra or self.features)


def parameters_of(request: Request) -> Parameters:
    """Return the parameters that a request sets.

    Values that are the default are left out.

    Raises:
        RequestError: ``extra`` sets a parameter that is a field of the request.
    """
    values: dict[str, object] = {
        name: value for name, value in zip(NAMES, _values(request), strict=True) if value is not None
    }
    if values.get("n") == 1:
        del values["n"]
    if not request.tools:
        values.pop("parallel_tool_calls", None)  # OpenAI refuses it without tools
    values |= _markers(request)
    if not isinstance(request.extra, Mapping):
        raise RequestError(f"extra of a request is a mapping of parameters by name, not {type(request.extra).__name__}")
    if reserved := sorted(str(name) for name in request.extra if not isinstance(name, str) or name in _OWN):
        message = (
            f"extra of a request names {', '.join(reserved)}: say it with the request's own field, or leave it out"
        )
        raise RequestError(message)
    native = request.native
    own = () if native is None else (native.format, native.features)
    return Parameters(values, request.extra, frozenset(request.droppable), *own)


def takes_native(deployment: Deployment, format: str | None) -> bool:
    """Return True if a deployment receives a client's own body as it came.

    The client speaks ``format``.
    """
    return format is not None and deployment.format == format and deployment.plugin is None


def unsaid(deployment: Deployment, parameters: Parameters) -> tuple[str, ...]:
    """Return reasons why a deployment does not support the parameters.

    There is one for each unsupported parameter that must not be dropped.
    """
    return tuple(reason for name, reason in _refusals(deployment, parameters) if name not in parameters.droppable)


def carried(deployment: Deployment, parameters: Parameters) -> Parameters:
    """Return the parameters that the deployment supports.

    A parameter that it carries although its format does not becomes one of ``extra``, under its own name.
    """
    refused = {name for name, _ in _refusals(deployment, parameters)}
    moved = _WORDLESS.get(deployment.format, frozenset()).intersection(deployment.carries, parameters.named) - refused
    if not refused and not moved:
        return parameters
    named = {name: value for name, value in parameters.named.items() if name not in refused}
    extra = {name: value for name, value in parameters.extra.items() if name not in refused}
    left_out = refused & (parameters.named.keys() | parameters.extra.keys())
    for name in moved:
        extra[name] = named.pop(name)
    return replace(parameters, named=named, extra=extra, left_out=frozenset(left_out))


def carried_effort(deployment: Deployment, request: Request) -> str | None:
    """Return the reasoning effort that a call asks for, or None."""
    effort = request.reasoning_effort
    if effort is None:
        return None
    native = None if request.native is None else request.native.format
    is_refused = any(_refusals(deployment, Parameters({"reasoning_effort": effort}, native=native)))
    return None if is_refused else effort


def _refusals(deployment: Deployment, parameters: Parameters) -> Iterator[tuple[str, str]]:
    if not parameters:
        return
    vendor_name = deployment.provider or deployment.format
    is_native = takes_native(deployment, parameters.native)
    row, rules = deployment.row, (_OF_MODELS if is_native else _RULES).get(deployment.format, _of_plugin)
    row_lacks = frozenset() if row is None else row.lacks
    for name, value in parameters.named.items():
        if name in deployment.carries:
            continue
        if name in deployment.lacks or name in row_lacks:
            yield name, f"{vendor_name} does not carry {name}"
        elif (reason := rules(name, value, deployment)) is not None:
            yield name, f"{vendor_name} does not carry {name}{reason}"
    for name, value in parameters.extra.items():
        if name in deployment.carries:
            continue
        if name in deployment.lacks or not _takes_extra(deployment, name, value, parameters.native):
            yield name, f"{vendor_name} does not carry {name}"
    for feature in () if is_native else parameters.features:
        yield feature, f"{vendor_name} does not carry {feature}"
    if {"reasoning_effort", "thinking_budget"} <= parameters.named.keys() and (row_name := _one_of_both(deployment)):
        yield "thinking_budget", f"{row_name} takes reasoning_effort or thinking_budget, not both"


def _takes_extra(deployment: Deployment, name: str, value: object, native: str | None) -> bool:
    format = deployment.format
    if deployment.plugin is not None:  # its adapter says by ``lacks`` what it does not take
        return True
    is_native = takes_native(deployment, native)
    if is_native and format != "openai":
        return True
    is_foreign = native is not None and not is_native
    if is_foreign or format != "openai" or (deployment.row in (VENDORS["openai"], VENDORS["azure"]) and not is_native):
        return name in _EXTRA[format] and _takes_value(deployment, name, value)
    # Servers of this format have parameters of their own, but not the parameters that identify other formats.
    other_vendors = (_EXTRA["anthropic"] | _EXTRA["gemini"]) - _EXTRA["openai"] - {"thinking"}
    return name not in other_vendors


def _takes_value(deployment: Deployment, name: str, value: object) -> bool:
    """Return False for a value that the format's parameter does not have.

    Anthropic's ``metadata`` has a user's identifier and nothing else. Responses are not stored, since no later request
    could name them: another deployment may answer it.
    """
    if deployment.format == "responses":
        return name != "store" or value is False
    if deployment.format != "anthropic" or name != "metadata":
        return True
    return isinstance(value, Mapping) and value.keys() <= {"user_id"}


def _one_of_both(deployment: Deployment) -> str | None:
    if deployment.format == "gemini" or deployment.provider == "openrouter":
        return deployment.provider or deployment.format
    return None


def _openai(name: str, value: object, deployment: Deployment) -> str | None:
    # A server without a row usually takes top_k; the other two have no name that such servers share.
    if deployment.row is None and name in ("thinking_budget", "cache_control"):
        return " (carries: in its deployment says that it does)"
    return None


def _anthropic(name: str, value: object, deployment: Deployment) -> str | None:
    if (reason := _claudes(name, value, deployment)) is not None:
        return reason
    match name:
        case "temperature" if isinstance(value, int | float) and value > MAX_TEMPERATURE:
            return f" of {value:g}, at most {MAX_TEMPERATURE:g}"
        case "seed" | "verbosity" | "custom_tools" | "allowed_tools":
            return ""
        case "presence_penalty" | "frequency_penalty":
            return None if value == 0 else ""
        case "n":
            return f" of {value}"
        case "reasoning_effort":
            return None if value in EFFORTS and value != "minimal" else f" {value!r}"
        case "thinking_budget":
            is_small = isinstance(value, int) and 0 < value < MIN_THINKING
            return f" of {value}, less than {MIN_THINKING}" if is_small else None
        case "service_tier":
            return None if value in ("auto", "default", "standard", "standard_only") else f" {value!r}"
    return None


def _claudes(name: str, value: object, deployment: Deployment) -> str | None:
    """Return why a Claude model refuses a parameter that others take."""
    version = _claude(deployment.upstream)
    match name:
        case "temperature" | "top_p" | "top_k" if version >= _WITHOUT_SAMPLING:
            return f" to {deployment.upstream}, which takes no sampling parameters"
        case "thinking_budget" if version >= _WITHOUT_SAMPLING and isinstance(value, int) and value > 0:
            return f" to {deployment.upstream}, which takes reasoning_effort"
        case "reasoning_effort" if _UNKNOWN < version < _WITH_EFFORT and value != "none":
            return f" to {deployment.upstream}"
    return None


def _claude(upstream: str) -> tuple[int, int]:
    """Return the version of a Claude model; (0, 0) where its name has none.

    An example is ``claude-opus-4-7``.
    """
    match = _CLAUDE.search(upstream)
    return _UNKNOWN if match is None else (int(match[1]), int(match[2] or 0))


def _gemini(name: str, value: object, deployment: Deployment) -> str | None:
    match name:
        case "user" | "verbosity" | "cache_control" | "custom_tools" | "allowed_tools":
            return ""
        case "strict":
            return " of a tool"
        case "parallel_tool_calls":
            return None if value else " as false"
        case "reasoning_effort":
            levels = ("minimal", "low", "medium", "high")
            is_old = thinks_by_budget(deployment.upstream)
            return None if value in levels or (is_old and value == "none") else f" {value!r}"
        case "service_tier":
            return None if value in ("auto", "default", "standard", "flex", "priority") else f" {value!r}"
    return None


def _responses(name: str, value: object, deployment: Deployment) -> str | None:
    match name:
        case "presence_penalty" | "frequency_penalty":
            return None if value == 0 else ""
        case "top_k" | "seed" | "n" | "thinking_budget" | "cache_control" | "stop":
            return ""
    return None


def _of_plugin(name: str, value: object, deployment: Deployment) -> str | None:
    return None


_RULES: Mapping[str, Callable[[str, object, Deployment], str | None]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "responses": _responses,
}
"""Reason why a format does not support a value, appended to "does not carry NAME"; None where it does."""

_OF_MODELS: Mapping[str, Callable[[str, object, Deployment], str | None]] = {"anthropic": _claudes}
"""The same for a body in the format itself: the vendor judges the values, and a client that asks for ``auto`` cannot
know what single models refuse."""


def thinks_by_budget(upstream: str) -> bool:
    """Return True if a Gemini model's thinking is set in tokens.

    Later ones (gemini-3 and on) take levels.
    """
    return "gemini-2" in upstream or "gemini-1" in upstream


def _markers(request: Request) -> dict[str, object]:
    """Return the parameters that stand within other fields of the request."""
    tools, choice, found = request.tools, request.tool_choice, dict[str, object]()
    if _marks_a_cache(request):
        found["cache_control"] = True
    if tools:
        found["strict"] = any(getattr(tool, "strict", None) for tool in tools)
        found["custom_tools"] = any(getattr(tool, "definition", None) is not None for tool in tools)
    if choice is not None:
        found["allowed_tools"] = isinstance(choice, Mapping) and choice.get("type") != "function"
    if request.stop:
        found["stop"] = True
    return {name: True for name, is_set in found.items() if is_set}


def _marks_a_cache(request: Request) -> bool:
    if any(getattr(tool, "cache_control", None) for tool in request.tools):
        return True
    return any(_is_marked(message) or any(map(_is_marked, content_parts(message))) for message in request.messages)


def _is_marked(value: object) -> bool:
    return _is_mapping(value) and bool(value.get("cache_control"))


def content_parts(message: object) -> Sequence[object]:
    """Return the parts of a message's content; none of a text.

    A value that is no message has none: it is refused later, by the wire format, with the deployment's name.
    """
    content = message.get("content") if _is_mapping(message) else None
    return content if isinstance(content, list | tuple) else ()


def _is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    # A check against an abstract class takes several times as long, and this one is made for every message.
    return type(value) is dict or isinstance(value, Mapping)

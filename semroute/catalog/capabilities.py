"""Capabilities of models, and requirements of requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from semroute.catalog.parameters import Parameters, content_parts, parameters_of, unsaid
from semroute.catalog.prices import listing_of, price_of
from semroute.catalog.tokens import estimate_tokens
from semroute.config import Config, Deployment, ModelSpec, Problem
from semroute.config.check import cascades
from semroute.config.values import dotted
from semroute.types import Request, tier_words

# Requirements of a request.

DEFAULT_OUTPUT_TOKENS = 1024
"""Assumed length of an answer where the request sets none: for reservations and for the expected cost."""

LONG_CONTEXT_TOKENS = 16_000
"""Length of input from which on a model strong at long context is preferred."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Requirements of a request on a model.

    Attributes:
        capabilities: required capabilities, among ``tools``, ``json_schema``, ``vision``, ``logprobs``.
        input_tokens: estimated, rather overestimated.
        max_output_tokens: the longest answer; :data:`DEFAULT_OUTPUT_TOKENS` where the request sets none.
        output_is_set: whether the request itself sets the longest answer.
        answers: number of alternatives, each of them charged.
        parameters: parameters of the request.
        strengths: fields in which a strong model is preferred: ``long_context``, ``structured_output``, ``tools`` and
            ``vision`` where the request shows it, and further fields that the caller or the category names.
    """

    capabilities: frozenset[str] = frozenset()
    input_tokens: int = 0
    max_output_tokens: int = DEFAULT_OUTPUT_TOKENS
    output_is_set: bool = False
    strengths: frozenset[str] = frozenset()
    answers: int = 1
    parameters: Parameters = field(default_factory=Parameters, hash=False)

    @property
    def output_tokens(self) -> int:
        """Longest answers together, tokens."""
        return self.max_output_tokens * self.answers

    @property
    def tokens(self) -> int:
        """Input and longest answers together, the reservation under a token limit."""
        return self.input_tokens + self.output_tokens

    @property
    def least_context(self) -> int:
        """Least context window, tokens.

        A model whose answer is not bounded fits it to the rest of the window.
        """
        return self.input_tokens + (self.max_output_tokens if self.output_is_set else 1)


def capabilities_of(request: Request) -> frozenset[str]:
    """Return the capabilities that a request requires.

    They are among ``tools``, ``json_schema``, ``vision`` and ``logprobs``.
    """
    required = {
        "tools": bool(request.tools),
        "json_schema": request.json_schema is not None,
        "logprobs": request.logprobs,
        "vision": any(_is_image(part) for message in request.messages for part in content_parts(message)),
    }
    return frozenset(name for name, is_asked in required.items() if is_asked)


def needs_of(request: Request, wants: frozenset[str] = frozenset(), input_tokens: int | None = None) -> Needs:
    """Return the requirements of ``request``.

    Args:
        request: the request.
        wants: further fields in which a strong model is preferred, which a request does not show: ``reasoning``, say.
        input_tokens: its estimated tokens where they are known; None estimates them, in time linear in its length.

    Raises:
        RequestError: ``extra`` of the request sets a parameter that is a field of it.
    """
    capabilities = capabilities_of(request)
    if input_tokens is None:
        input_tokens = estimate_tokens(request)
    strengths = {_STRENGTHS[capability] for capability in capabilities if capability in _STRENGTHS}
    if input_tokens >= LONG_CONTEXT_TOKENS:
        strengths.add("long_context")
    budget = request.thinking_budget
    unlimited = DEFAULT_OUTPUT_TOKENS + (budget if isinstance(budget, int) and budget > 0 else 0)
    return Needs(
        capabilities=capabilities,
        input_tokens=input_tokens,
        max_output_tokens=unlimited if request.max_tokens is None else request.max_tokens,
        output_is_set=request.max_tokens is not None,
        strengths=wants | strengths,
        answers=request.n if isinstance(request.n, int) and request.n > 1 else 1,
        parameters=parameters_of(request),
    )


_STRENGTHS = {"tools": "tools", "json_schema": "structured_output", "vision": "vision"}


def _is_image(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "image_url"


# Model cards, and the fit of deployments to a request.

UNKNOWN_STRENGTH = 0.5
"""Strength in a field without information."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Known properties of a logical model.

    Attributes:
        name: the logical model.
        context: the longest input and output together, in tokens; None where unknown.
        capabilities: its capabilities; None where unknown.
        strengths: strength from 0 to 1 by field; a missing field is unknown.
        max_output: the longest answer, in tokens; None where unknown.
    """

    name: str
    context: int | None = None
    capabilities: frozenset[str] | None = None
    strengths: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    max_output: int | None = None


def model_card(name: str, config: Config) -> ModelCard:
    """Return the card of a model, by configuration and genai-prices.

    Where the context windows of its deployments differ, the card has the shortest, which holds for all of them.
    """
    spec = config.models.get(name, _NOTHING)
    windows = [
        window for deployment in config.deployments_of(name) if (window := _context(deployment, spec)) is not None
    ]
    return ModelCard(
        name,
        spec.context or min(windows, default=None),
        None if spec.capabilities is None else frozenset(spec.capabilities),
        spec.strengths,
        spec.max_output,
    )


def fits(deployment: Deployment, config: Config, needs: Needs) -> tuple[str, ...]:
    """Return reasons why a deployment cannot take a request; empty if it can.

    Unknown properties are no reason.
    """
    spec = config.models.get(deployment.model, _NOTHING)
    reasons = []
    context = _context(deployment, spec)
    if context is not None and needs.least_context > context:
        reasons.append(f"takes {context} tokens, and the request may have {needs.least_context}")
    if needs.output_is_set and spec.max_output is not None and needs.max_output_tokens > spec.max_output:
        reasons.append(f"answers with {spec.max_output} tokens at most, and {needs.max_output_tokens} are asked for")
    for capability in sorted(needs.capabilities):
        if capability in deployment.vendor.lacks or capability in deployment.lacks:
            reasons.append(f"{deployment.provider or deployment.format} does not carry {capability}")
        elif spec.capabilities is not None and capability not in spec.capabilities:
            reasons.append(f'model "{deployment.model}" has no {capability}')
    return (*reasons, *unsaid(deployment, needs.parameters))


def strength(deployment: Deployment, config: Config, needs: Needs) -> float:
    """Return the mean strength of the model over the preferred fields, 0 to 1.

    It is 0.5 for a field without information, and for a request that prefers no field.
    """
    strengths = config.models.get(deployment.model, _NOTHING).strengths
    if not needs.strengths or not strengths:
        return UNKNOWN_STRENGTH
    return sum(strengths.get(field, UNKNOWN_STRENGTH) for field in needs.strengths) / len(needs.strengths)


_NOTHING = ModelSpec()


def _context(deployment: Deployment, spec: ModelSpec) -> int | None:
    """Return the deployment's context window, tokens; None where unknown.

    genai-prices has the longest input, which is never more than the window.
    """
    if spec.context is not None:
        return spec.context
    row = listing_of(deployment)
    return None if row is None else row.context


def check_catalog(config: Config) -> list[Problem]:
    """Return problems of deployments and models with missing information.

    Errors: tiers that a cascade's budget leaves out because none of their deployments has a known price. Warnings:
    other deployments without one, tiers whose effort nothing takes, then models whose context window is unknown.
    """
    return [*_unaffordable(config), *_without_price(config), *_without_effort(config), *_without_context(config)]


def _unaffordable(config: Config) -> Iterator[Problem]:
    for key, cascade in cascades(config).items():
        if cascade.max_usd is None:
            continue
        for position, tier in enumerate(cascade.tiers):
            deployments = config.deployments_of(tier.use)
            if deployments and all(price_of(deployment, config) is None for deployment in deployments):
                ordinal = tier_words(position, len(cascade.tiers))
                message = f'{ordinal}: no price is known for "{dotted([tier.use])}", and a tier without one is left out'
                fix = f"add price to its deployments or models, or remove {key}.max_usd"
                yield Problem("error", f"{key}.tiers.{position}", message, fix)


def _without_price(config: Config) -> Iterator[Problem]:
    for position, deployment in enumerate(config.deployments):
        if price_of(deployment, config) is None:
            message = f'no price is known for model "{dotted([deployment.upstream])}": calls here have no cost'
            fix = "add price: {input: …, output: …} in USD per million tokens; 0 and 0 where calls cost nothing"
            yield Problem("warning", dotted(("deployments", position)), message, fix)


def _without_effort(config: Config) -> Iterator[Problem]:
    for key, cascade in cascades(config).items():
        for position, tier in enumerate(cascade.tiers):
            deployments = config.deployments_of(tier.use)
            asked = Parameters({"reasoning_effort": tier.effort})
            if tier.effort and deployments and all(unsaid(deployment, asked) for deployment in deployments):
                message = f'no deployment of "{dotted([tier.use])}" takes an effort of {tier.effort}: it is left out'
                fix = f"remove it, or choose another: {'; '.join(unsaid(deployments[0], asked))}"
                yield Problem("warning", f"{key}.tiers.{position}.effort", message, fix)


def _without_context(config: Config) -> Iterator[Problem]:
    for model in dict.fromkeys(deployment.model for deployment in config.deployments):
        if model_card(model, config).context is None:
            message = "its context window is not known: requests that are too long are sent, and refused there"
            fix = f'add "{dotted([model])}: {{context: …}}" under models, in tokens'
            yield Problem("warning", dotted(("models", model)), message, fix)

"""What a request asks of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from semroute.catalog.parameters import Parameters, parameters_of
from semroute.catalog.tokens import estimate_tokens
from semroute.types import Request

DEFAULT_OUTPUT_TOKENS = 1024
"""Taken for the answer's length where the request sets none: for reservations and for the expected cost."""

LONG_CONTEXT_TOKENS = 16_000
"""Inputs from this length on want a model that is strong at long context."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model.

    Attributes:
        capabilities: what the model must be able to do, among ``tools``, ``json_schema``, ``vision``, ``logprobs``.
        input_tokens: estimated, rather too many.
        max_output_tokens: the longest answer; :data:`DEFAULT_OUTPUT_TOKENS` where the request sets none.
        output_is_set: whether the request itself sets the longest answer.
        answers: alternatives that are wanted, each of them charged.
        parameters: how the request is to be answered.
        strengths: fields in which a strong model is wanted: ``long_context``, ``structured_output``, ``tools`` and
            ``vision`` where the request shows it, and what else the caller or the category names.
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
        """The longest answers together."""
        return self.max_output_tokens * self.answers

    @property
    def tokens(self) -> int:
        """Input and longest answers together: what is reserved under a limit of tokens."""
        return self.input_tokens + self.output_tokens

    @property
    def least_context(self) -> int:
        """Tokens that the context window has to hold: a model whose answer is not bounded fits it to what is left."""
        return self.input_tokens + (self.max_output_tokens if self.output_is_set else 1)


def capabilities_of(request: Request) -> frozenset[str]:
    """What the model must be able to do, among ``tools``, ``json_schema``, ``vision``, ``logprobs``."""
    asked = {
        "tools": bool(request.tools),
        "json_schema": request.json_schema is not None,
        "logprobs": request.logprobs,
        "vision": any(_shows_an_image(message) for message in request.messages),
    }
    return frozenset(name for name, is_asked in asked.items() if is_asked)


def needs_of(request: Request, wants: frozenset[str] = frozenset()) -> Needs:
    """What ``request`` asks of a model; estimates its tokens, which is linear in its length.

    Args:
        request: what is asked.
        wants: further fields in which a strong model is wanted, which a request does not show: ``reasoning``, say.

    Raises:
        RequestError: ``extra`` of the request names what a field of it says.
    """
    capabilities = capabilities_of(request)
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


def _shows_an_image(message: object) -> bool:
    # What is no message at all is for the wire format to refuse, with the deployment's name.
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str) or not isinstance(content, list | tuple):
        return False
    return any(isinstance(part, Mapping) and part.get("type") == "image_url" for part in content)

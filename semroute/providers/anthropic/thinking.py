"""Anthropic's extended thinking.

Source: https://platform.claude.com/docs/en/build-with-claude/extended-thinking, with what it is not compatible with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from semroute.errors import CapabilityError
from semroute.providers.conversation.messages import ends_with_result
from semroute.providers.target import CallTarget
from semroute.types import Request

ANSWER_TOKENS = 8192
"""Left for the answer beside the budget, where the request names no limit: ``max_tokens`` bounds both together."""

_LEAST_TOP_P = 0.95


def thinking(named: Mapping[str, object], request: Request, target: CallTarget) -> dict[str, object]:
    """Return the fields of a body that turn thinking on or off; none where the request leaves it to the model.

    Raises:
        CapabilityError: the API does not think beside something else that the request asks for.
    """
    budget = named.get("thinking_budget")
    if budget == 0 or (budget is None and named.get("reasoning_effort") == "none"):
        return {"thinking": {"type": "disabled"}}
    if not isinstance(budget, int):
        return {}
    if reasons := list(_against(budget, request)):
        if "thinking_budget" in request.droppable:
            return {}
        name = target.deployment.name
        raise CapabilityError(f"{name}: Anthropic takes no thinking_budget {'; nor '.join(reasons)}", deployment=name)
    if budget < 0:
        return {"thinking": {"type": "adaptive"}}
    limit = {"max_tokens": budget + ANSWER_TOKENS} if request.max_tokens is None else {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}, **limit}


def _against(budget: int, request: Request) -> Iterator[str]:
    if request.max_tokens is not None and budget >= request.max_tokens:
        yield f"of {budget} within max_tokens of {request.max_tokens}: raise max_tokens"
    if request.tool_choice not in (None, "auto", "none"):
        yield "with a tool_choice that demands a call"
    if request.temperature not in (None, 1):
        yield "with a temperature other than 1"
    if request.top_k is not None:
        yield "with top_k"
    if request.top_p is not None and request.top_p < _LEAST_TOP_P:
        yield f"with a top_p below {_LEAST_TOP_P}"
    if ends_with_result(request):
        # The API wants the signed thinking before the call back, and messages in OpenAI's shape have no place for it.
        yield "between a tool's result and the answer to it"

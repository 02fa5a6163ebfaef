"""Client of a conversation: an agent that speaks a vendor's format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import httpx

from session_bench.conversations import Ask, Conversation, filler
from session_bench.vendor import Plan

Policy: TypeAlias = Literal["always strong", "always small", "each ask alone", "pinned", "semroute"]
POLICIES: tuple[Policy, ...] = ("always strong", "always small", "each ask alone", "pinned", "semroute")
STRONG, SMALL = "strong", "small"
_TOOL = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a conversation.

    Attributes:
        ask: number of the ask that it belongs to.
        is_easy: whether that ask is easy.
        model: who answered.
        usage: input, cached and written tokens, and output tokens, as the vendor counted them.
        usd: cost that the gateway told.
    """

    ask: int
    is_easy: bool
    model: str
    usage: tuple[int, int, int, int]
    usd: float


@dataclass(slots=True)
class Played:
    """A conversation under a policy."""

    conversation: Conversation
    policy: Policy
    calls: list[Call] = field(default_factory=list)

    @property
    def usd(self) -> float:
        """Cost of all of its calls."""
        return sum(call.usd for call in self.calls)

    @property
    def switches(self) -> int:
        """Changes of the model from one call to the next."""
        models = [call.model for call in self.calls]
        return sum(before != after for before, after in pairwise(models))

    @property
    def underserved(self) -> int:
        """Hard asks that the small model answered."""
        return len({call.ask for call in self.calls if not call.is_easy and call.model == SMALL})


class Agent:
    """Agent that plays a conversation through the gateway.

    Args:
        http: client of the gateway.
        format: ``openai`` or ``anthropic``, which it speaks.
        plans: where it says what its asks are to be answered with.
        run: name of the run, which keeps prompts of runs apart in the vendor's cache.
    """

    def __init__(self, http: httpx.AsyncClient, format: str, plans: dict[str, list[Plan]], run: str) -> None:
        self._http, self._format, self._plans, self._run = http, format, plans, run

    async def play(self, conversation: Conversation, policy: Policy) -> Played:
        """Return a conversation, played to its end."""
        played = Played(conversation, policy)
        # Of the same length for each policy, so that prompts are.
        name = f"{self._run}-{POLICIES.index(policy)}-{conversation.number:04d}"
        system = filler(conversation.prefix, f"{name} You are a coding agent.")
        self._plans[name] = [Plan(ask.calls, ask.answer) for ask in conversation.asks]
        messages: list[dict[str, Any]] = [] if self._format == "anthropic" else [{"role": "system", "content": system}]
        pinned: str | None = {"always strong": STRONG, "always small": SMALL}.get(policy)
        for number, ask in enumerate(conversation.asks):
            block = {"type": "text", "text": ask.text}
            messages.append({"role": "user", "content": [block] if self._format == "anthropic" else ask.text})
            session = f"{name}-{number}" if policy == "each ask alone" else name
            for made in range(len(ask.calls) + 1):
                answer, headers = await self._post(system, messages, pinned or "auto", session)
                played.calls.append(self._taken(number, ask, answer, headers))
                messages += self._said(answer, filler(ask.results[made], made) if made < len(ask.calls) else None)
            if policy == "pinned":
                pinned = played.calls[-1].model
        return played

    async def _post(
        self, system: str, messages: list[dict[str, Any]], model: str, session: str
    ) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        body: dict[str, Any] = {"model": model, "max_tokens": 4096}
        if self._format == "anthropic":
            mark = {"cache_control": {"type": "ephemeral"}}
            last = messages[-1]
            marked = [*messages[:-1], last | {"content": [*last["content"][:-1], last["content"][-1] | mark]}]
            tools = [{"name": "read_file", "description": "Read a file.", "input_schema": _TOOL}]
            body |= {"system": [{"type": "text", "text": system} | mark], "messages": marked, "tools": tools}
            path, more = "/v1/messages", {"anthropic-version": "2023-06-01"}
        else:
            function = {"name": "read_file", "description": "Read a file.", "parameters": _TOOL}
            body |= {"messages": messages, "tools": [{"type": "function", "function": function}]}
            path, more = "/v1/chat/completions", {}
        response = await self._http.post(path, json=body, headers={"x-session-affinity": session} | more)
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code}: {response.text[:2000]}")
        return response.json(), response.headers

    def _taken(self, number: int, ask: Ask, answer: Mapping[str, Any], headers: Mapping[str, str]) -> Call:
        usage, usd = answer["usage"], float(headers["x-semroute-cost-usd"])
        if self._format == "anthropic":
            read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
            counts = usage["input_tokens"] + read + written, read, written, usage["output_tokens"]
        else:
            read = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            counts = usage["prompt_tokens"], read, 0, usage["completion_tokens"]
        return Call(number, ask.is_easy, headers["x-semroute-model"], counts, usd)

    def _said(self, answer: Mapping[str, Any], result: str | None) -> list[dict[str, Any]]:
        """Return an answer's messages: itself, and its tool call's result."""
        if self._format == "anthropic":
            said = [{"role": "assistant", "content": answer["content"]}]
            if result is not None:
                called = next(block["id"] for block in answer["content"] if block["type"] == "tool_use")
                block = {"type": "tool_result", "tool_use_id": called, "content": result}
                said.append({"role": "user", "content": [block]})
            return said
        message = json.loads(json.dumps(answer["choices"][0]["message"]))
        said = [{name: value for name, value in message.items() if name in ("role", "content", "tool_calls") and value}]
        if result is not None:
            said.append({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": result})
        return said


async def play_all(
    url: str, format: str, plans: dict[str, list[Plan]], run: str, found: Sequence[Conversation]
) -> list[Played]:
    """Play conversations under every policy, four at once."""
    room = asyncio.Semaphore(4)
    async with httpx.AsyncClient(base_url=url, timeout=120.0, trust_env=False) as http:
        agent = Agent(http, format, plans, run)

        async def one(conversation: Conversation, policy: Policy) -> Played:
            async with room:
                return await agent.play(conversation, policy)

        return await asyncio.gather(*(one(each, policy) for each in found for policy in POLICIES))

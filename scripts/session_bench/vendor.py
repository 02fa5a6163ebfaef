"""Vendor with a cache of prompts, behind the test double's wire formats.

Sources: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (a prefix is written where the request
marks it and read as long as it is the same; 1.25 times the price of input to write, 0.1 to read) and
https://platform.openai.com/docs/guides/prompt-caching (prompts from 1,024 tokens on, in steps of 128, without marks;
half the price of input for the models of that time). Entries live for five minutes at least, longer than any
conversation here takes, and are never dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semroute.testing import RecordedRequest, Reply, answer, fail
from semroute.testing.replies import Call
from session_bench.conversations import CHARS_A_TOKEN, filler

LEAST_TOKENS, STEP = 1024, 128


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models and their vendors' wire formats.

    Attributes:
        strong, small: names in the price list.
        formats: of the strong model's vendor, which the client speaks, and of the small one's.
    """

    strong: str
    small: str
    formats: tuple[str, str]

    def price(self, listed: Mapping[str, tuple[float, float]], is_strong: bool) -> dict[str, float]:
        """Return a model's configured price, USD per million tokens."""
        given, taken = listed[self.strong if is_strong else self.small]
        if self.formats[not is_strong] == "openai":
            return {"input": given, "output": taken, "cached_input": given * 0.5}
        return {"input": given, "output": taken, "cached_input": given * 0.1, "cache_write": given * 1.25}


_SONNET, _GPT = "claude-3-5-sonnet-20241022", "gpt-4o-2024-08-06"
PAIRS = {
    "Sonnet 3.5 / Haiku 3": Pair(_SONNET, "claude-3-haiku-20240307", ("anthropic", "anthropic")),
    "Sonnet 3.5 / Haiku 3.5": Pair(_SONNET, "claude-3-5-haiku-20241022", ("anthropic", "anthropic")),
    "GPT-4o / mini": Pair(_GPT, "gpt-4o-mini-2024-07-18", ("openai", "openai")),
    "Sonnet 3.5 / GPT-4o": Pair(_SONNET, _GPT, ("anthropic", "openai")),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Answers to one ask: output tokens of its tool calls, and of the answer."""

    calls: tuple[int, ...]
    answer: int


class Vendor:
    """Replies of the test double, counted as a vendor with a cache would.

    Args:
        plans: what to answer to each ask of a conversation, by the first word of its system prompt.
    """

    def __init__(self, plans: Mapping[str, Sequence[Plan]]) -> None:
        self._plans = plans
        self._cached: dict[str, set[bytes]] = {}

    def __call__(self, request: RecordedRequest) -> Reply:
        """Return the reply to a request."""
        body = request.body
        if not isinstance(body, dict):
            return fail(400, "no body")
        spoken = "anthropic" if request.path.endswith("/messages") else "openai"
        prefixes = list(_prefixes(body))
        total = prefixes[-1][1]
        known = self._cached.setdefault(body["model"], set())
        read = max((tokens for digest, tokens in prefixes if digest in known and tokens >= LEAST_TOKENS), default=0)
        known.update(digest for digest, _ in prefixes)
        if spoken == "openai":
            read -= read % STEP
        plan, made = self._planned(body)
        counts = {"input_tokens": total, "cached_tokens": read, "model": body["model"]}
        if spoken == "anthropic":
            counts["cache_write_tokens"] = total - read if total >= LEAST_TOKENS else 0
        if made < len(plan.calls):
            # Every call is another one: a model that repeats itself is left for a stronger one.
            call = Call("read_file", {"path": f"src/{len(body['messages'])}/{made}.py"})
            return answer(calls=[call], output_tokens=plan.calls[made], **counts)
        return answer(filler(plan.answer, "Done."), output_tokens=plan.answer, **counts)

    def _planned(self, body: Mapping[str, Any]) -> tuple[Plan, int]:
        """Return the last ask's plan, and how many of its calls were made."""
        system = body["system"] if "system" in body else body["messages"][0]["content"]
        system = system if isinstance(system, str) else system[0]["text"]
        asks = made = 0
        for message in body["messages"]:
            if message["role"] == "tool" or (message["role"] == "user" and _has_result(message["content"])):
                made += 1
            elif message["role"] == "user":
                asks, made = asks + 1, 0
        return self._plans[system.split()[0]][asks - 1], made


def _has_result(content: object) -> bool:
    return isinstance(content, list) and any(part.get("type") == "tool_result" for part in content)


def _prefixes(body: Mapping[str, Any]) -> Iterator[tuple[bytes, int]]:
    """Yield digest and tokens of each prefix that ends with a message."""
    digest, chars = hashlib.blake2b(digest_size=12), 0
    heads = [body["system"]] if "system" in body else []
    for part in (*heads, *body["messages"]):
        text = json.dumps(part, sort_keys=True).replace(', "cache_control": {"type": "ephemeral"}', "")
        text = text.replace('"cache_control": {"type": "ephemeral"}, ', "")
        digest.update(text.encode())
        chars += len(text)
        yield digest.copy().digest(), chars // CHARS_A_TOKEN

"""Sessions: which conversation a request continues, which model answered it last, and what that model has cached.

An id may come by header (Claude Code, Codex, opencode), as OpenAI's ``prompt_cache_key``, or as the user of the request
(Claude Code puts its session there). Agents send the conversations of subagents, and users all of theirs, under one id:
a conversation is therefore the id together with its first user message, and without an id the conversation's prefix.
A first message that changes loses the provider's cache as well, so that nothing is left to be kept.

Sources: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (a cache lives for 5 minutes after its
last use), https://platform.openai.com/docs/guides/prompt-caching (5 to 10 minutes; ``prompt_cache_key``).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from semroute.types import Completion, Message, Request, Usage

SESSION_TTL_S = 300.0
"""Time without a request after which a session is forgotten, seconds: the shortest life of a vendor's cache."""
MOST_SESSIONS = 10_000
"""Sessions of one key in memory; the one that was used longest ago makes room."""
MOST_CALLS = 128
"""Tool calls of an answer whose results are recognised."""
MOST_CACHES = 8
"""Deployments whose cache of one conversation is remembered."""

HEADERS = ("x-claude-code-session-id", "session-id", "session_id", "x-session-affinity")
"""Headers with an id of the conversation, the first of them counts: Claude Code's, Codex's (twice), opencode's."""
_VOLATILE = "x-anthropic-billing-header:"
"""Start of a system block in which Claude Code sends a checksum that differs from request to request."""


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """Prefix of a conversation in the cache of a deployment.

    Attributes:
        tokens: its length, as the provider counted what it read from its cache and wrote to it.
        at: time of the answer, seconds on the clock of the store.
    """

    tokens: int
    at: float


@dataclass(slots=True)
class Session:
    """State of one conversation.

    Attributes:
        used: time of its last request, seconds on the clock of the store.
        model: the model that it stays with; None before the first answer.
        deployment: where that model answered last.
        caches: cached prefixes by deployment.
        owner: model whose tool calls wait for their results, and its deployment; None without one.
        calls: ids of these tool calls.
        output_tokens: length of the last answer; None before the first one that was counted.
        scale: counted input tokens of the last request, divided by the estimate of them.
        forgone: USD that staying has cost more than another model would have, with the prefix in its cache, by model.
    """

    used: float
    model: str | None = None
    deployment: str | None = None
    caches: dict[str, CachedPrefix] = field(default_factory=dict)
    owner: tuple[str, str] | None = None
    calls: frozenset[str] = frozenset()
    output_tokens: int | None = None
    scale: float = 1.0
    forgone: dict[str, float] = field(default_factory=dict)

    def owns(self, request: Request) -> tuple[str, str] | None:
        """Return the model that made the calls whose results end the request, and its deployment; None if none."""
        trailing = trailing_results(request)
        return self.owner if trailing and trailing <= self.calls else None

    def note(self, completion: Completion, estimated: int, at: float, *, moves: bool) -> None:
        """Note an answer.

        Args:
            completion: the answer.
            estimated: input tokens of its request, as they were estimated.
            at: time, seconds on the clock of the store.
            moves: whether the conversation stays with this model from now on; False where it only stood in.
        """
        self.used = at
        if moves or self.model is None:
            if self.model != completion.model:
                self.forgone.clear()
            self.model, self.deployment = completion.model, completion.deployment
        self.calls = frozenset([call.id for call in completion.tool_calls][:MOST_CALLS])
        self.owner = (completion.model, completion.deployment) if self.calls else None
        if completion.usage is not None:
            self._count(completion.usage, completion.deployment, estimated, at)

    def forgo(self, model: str, usd: float) -> None:
        """Add what staying cost more than another model would have, with the prefix in its cache."""
        self.forgone[model] = self.forgone.get(model, 0.0) + usd

    def _count(self, usage: Usage, deployment: str, estimated: int, at: float) -> None:
        self.output_tokens = usage.output_tokens
        # Estimates are high, and the cached part is counted: on one scale, or the rest would look too large.
        self.scale = min(max(usage.input_tokens / estimated, 0.25), 4.0)
        self.caches.pop(deployment, None)
        self.caches[deployment] = CachedPrefix(usage.cached_tokens + usage.cache_write_tokens, at)
        while len(self.caches) > MOST_CACHES:
            del self.caches[next(iter(self.caches))]


class Sessions:
    """Sessions of the gateway's callers, in this process.

    Args:
        ttl_s: time without a request after which a session, and what a provider cached of it, is forgotten, seconds.
        most: sessions of one key.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        ttl_s: float = SESSION_TTL_S,
        most: int = MOST_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_s = ttl_s
        self._most = most
        self.clock = clock
        self._by_caller: dict[str | None, OrderedDict[bytes, Session]] = {}
        self._swept = clock()

    def __len__(self) -> int:
        """Return the number of sessions in memory."""
        return sum(map(len, self._by_caller.values()))

    def find(self, caller: str | None, headers: Mapping[str, str], request: Request) -> Session | None:
        """Return the session that a request continues; None for a new one.

        Args:
            caller: id of the virtual key; no caller sees another's sessions.
            headers: of the HTTP request, found in any case.
            request: what is asked.
        """
        sessions = self._living(caller)
        found = sessions.get(identity(headers, request))
        now = self.clock()
        if found is None or now - found.used > self.ttl_s:
            return None
        for deployment in [name for name, cache in found.caches.items() if now - cache.at > self.ttl_s]:
            del found.caches[deployment]
        return found

    def start(self, caller: str | None, headers: Mapping[str, str], request: Request) -> Session:
        """Return the session of a request, made if there is none, as the one that was used last."""
        sessions, name, now = self._living(caller), identity(headers, request), self.clock()
        session = sessions.get(name)
        if session is None or now - session.used > self.ttl_s:
            session = sessions[name] = Session(now)
        session.used = now
        sessions.move_to_end(name)
        while len(sessions) > self._most:
            sessions.popitem(last=False)
        return session

    def _living(self, caller: str | None) -> OrderedDict[bytes, Session]:
        """Return a caller's sessions; from time to time all that are too old are dropped, and callers without any."""
        now = self.clock()
        if now - self._swept > self.ttl_s:
            self._swept = now
            for name, sessions in list(self._by_caller.items()):
                while sessions and now - next(iter(sessions.values())).used > self.ttl_s:
                    sessions.popitem(last=False)
                if not sessions:
                    del self._by_caller[name]
        return self._by_caller.setdefault(caller, OrderedDict())


def identity(headers: Mapping[str, str], request: Request) -> bytes:
    """Return the identity of a conversation, 16 bytes.

    It depends on the id that the client sends, if it sends one, and on the beginning of the conversation.
    """
    named = next(_ids(headers, request), None)
    digest = blake2b(digest_size=16)
    for text in named or ("prefix", ""):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    for text in _prefix(request, with_system=named is None):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


def _ids(headers: Mapping[str, str], request: Request) -> Iterator[tuple[str, str]]:
    """Yield the ids that a client sends, each with its kind, the most telling first."""
    for name in HEADERS:
        if value := headers.get(name):
            yield "header", value
    key = request.extra.get("prompt_cache_key")
    if isinstance(key, str) and key:
        yield "prompt_cache_key", key
    if isinstance(request.user, str) and request.user:
        yield "user", request.user


def _prefix(request: Request, *, with_system: bool) -> Iterator[str]:
    """Yield the texts of the first user message, and of the system prompt before it."""
    for message in request.messages:
        role = role_of(message)
        if role in ("system", "developer") and with_system:
            yield from (text for text in texts_of(message) if not text.startswith(_VOLATILE))
        elif role == "user":
            yield from texts_of(message)
            return


def role_of(message: object) -> object:
    """Return the role of a message; None of what is none, which the router refuses later."""
    return message.get("role") if isinstance(message, Mapping) else None


def texts_of(message: Message) -> Iterator[str]:
    """Yield the texts of a message, one for each part that has one."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | tuple):
        for part in content:
            text = part.get("text") if isinstance(part, Mapping) else part
            if isinstance(text, str):
                yield text


def trailing_results(request: Request) -> frozenset[str]:
    """Return the ids of the tool results that stand after the last answer."""
    found = set[str]()
    for message in reversed(request.messages):
        if role_of(message) == "assistant":
            break
        if role_of(message) == "tool":
            found.add(str(message.get("tool_call_id")))
    return frozenset(found)

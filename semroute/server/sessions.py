"""Sessions: a request's conversation, its last model, and its cache.

An id may come by header (Claude Code, Codex, opencode), as OpenAI's ``prompt_cache_key``, or as the user of the request
(Claude Code puts its session there). Agents send the conversations of subagents, and users all of theirs, under one id:
a conversation is therefore the id together with its first user message, and without an id the conversation's prefix.
A first message that changes loses the provider's cache as well, so that nothing is left to be kept.

Workers and replicas share sessions through the Redis of ``state``, where there is one. A process goes on with its own
while that is away: a session that is not known costs a cache, and no request.

Sources: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (a cache lives for 5 minutes after its
last use), https://platform.openai.com/docs/guides/prompt-caching (5 to 10 minutes; ``prompt_cache_key``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from semroute.config import Config
from semroute.errors import StateError
from semroute.providers.sealed import PROCESS_ITEMS, SealedItems
from semroute.resilience.gates import open_redis
from semroute.resilience.redis.server import Server, SlowAnswerError
from semroute.types import Completion, Message, Request, Usage

SESSION_TTL_S = 300.0
"""Time without a request after which a session is forgotten, seconds: the shortest life of a vendor's cache."""
MOST_SESSIONS = 10_000
"""Sessions of one key in memory; the one that was used longest ago makes room."""
MOST_CALLS = 128
"""Tool calls of an answer whose results are recognised."""
MOST_CACHES = 8
"""Deployments whose cache of one conversation is remembered."""
MOST_FORGONE = 32
"""Models of one conversation whose forgone costs are shared."""
MOST_BYTES = 16 * 1024
"""Longest value of a session in Redis; one that would be longer stays in its process."""
MOST_WRITES = 1_000
"""Sessions that wait for Redis at once; further ones stay in their process."""
READ_S = 0.25
"""Longest wait of a request for its session in Redis, seconds."""
RETURN_S = 1.0
"""Interval of the checks if Redis is back, seconds."""
PREFIX = "semroute:session:"
"""Prefix of a session's key in Redis."""
SEALED_PREFIX = "semroute:sealed:"
"""Prefix of a sealed item's key in Redis: a digest of the item, with the deployment that sealed it."""
SEALED_TTL_MS = 24 * 3_600_000
"""Life of such a key, milliseconds: a conversation may be taken up again on the next day."""
MOST_SEALED = 64
"""Sealed items of a request that Redis is asked for, the last ones."""

log = logging.getLogger("semroute")

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
        calls: digests of the ids of these tool calls, which may be a vendor's sealed state.
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
        """Return model and deployment of the calls whose results end a request.

        None if there are none.
        """
        trailing = trailing_results(request)
        return self.owner if trailing and {_digest(call) for call in trailing} <= self.calls else None

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
        self.calls = frozenset(_digest(call.id) for call in completion.tool_calls[:MOST_CALLS])
        self.owner = (completion.model, completion.deployment) if self.calls else None
        if completion.usage is not None:
            self._count(completion.usage, completion.deployment, estimated, at)

    def forgo(self, model: str, usd: float) -> None:
        """Add the extra cost of staying over a model with a cached prefix."""
        self.forgone[model] = self.forgone.get(model, 0.0) + usd

    def _count(self, usage: Usage, deployment: str, estimated: int, at: float) -> None:
        self.output_tokens = usage.output_tokens
        # Estimates are high, and the cached part is counted: on one scale, or the rest would look too large.
        self.scale = min(max(usage.input_tokens / estimated, 0.25), 4.0)
        self.caches.pop(deployment, None)
        self.caches[deployment] = CachedPrefix(usage.cached_tokens + usage.cache_write_tokens, at)
        while len(self.caches) > MOST_CACHES:
            del self.caches[next(iter(self.caches))]


class SharedSession(BaseModel):
    """Session as it lies in Redis: names, counts, digests, and ages.

    It has no word of the conversation. Ages are in seconds.
    """

    version: Literal[1] = 1
    model: str | None
    deployment: str | None
    caches: Annotated[dict[str, tuple[int, float]], Field(max_length=MOST_CACHES)]
    owner: tuple[str, str] | None
    calls: Annotated[list[str], Field(max_length=MOST_CALLS)]
    output_tokens: int | None
    scale: float
    forgone: Annotated[dict[str, float], Field(max_length=MOST_FORGONE)]

    @classmethod
    def of(cls, session: Session, now: float) -> SharedSession:
        """Return a session to share; of what was forgone the largest costs."""
        return cls(
            model=session.model,
            deployment=session.deployment,
            caches={name: (prefix.tokens, now - prefix.at) for name, prefix in session.caches.items()},
            owner=session.owner,
            calls=sorted(session.calls),
            output_tokens=session.output_tokens,
            scale=session.scale,
            forgone=dict(sorted(session.forgone.items(), key=lambda one: -one[1])[:MOST_FORGONE]),
        )

    def session(self, now: float, age_s: float) -> Session:
        """Return the session, ``age_s`` seconds after it was shared."""
        used = now - age_s
        return Session(
            used,
            self.model,
            self.deployment,
            {name: CachedPrefix(tokens, used - cached_s) for name, (tokens, cached_s) in self.caches.items()},
            self.owner,
            frozenset(self.calls),
            self.output_tokens,
            self.scale,
            dict(self.forgone),
        )


@dataclass(frozen=True, slots=True)
class SharedState:
    """State of a conversation in Redis, as far as it answered in time.

    Attributes:
        session: the session and its age in seconds; None where there is none.
        sealers: deployments that sealed the items that were asked for, by digest, as far as known.
    """

    session: tuple[SharedSession, float] | None = None
    sealers: Mapping[str, str] = field(default_factory=dict)


class SessionReading:
    """Read of a session from Redis, under way.

    Args:
        task: gets the answer, or None where there is none.
        digests: sealed items that are asked for with it.
        ttl_ms: life of a session after it was written, milliseconds.
        read_s: longest wait from now on, seconds.
    """

    def __init__(self, task: asyncio.Task[Any], digests: Sequence[str], ttl_ms: int, read_s: float) -> None:
        self._task, self._digests, self._ttl_ms = task, digests, ttl_ms
        self._until = asyncio.get_running_loop().time() + read_s

    async def result(self) -> SharedState:
        """Return what Redis knows; nothing if it did not answer in time."""
        if not self._task.done():
            await asyncio.wait({self._task}, timeout=max(self._until - asyncio.get_running_loop().time(), 0.0))
        found = self._task.result() if self._task.done() and not self._task.cancelled() else None
        if not found:
            return SharedState()
        session, sealers = found
        owners = zip(self._digests, sealers, strict=True)
        return SharedState(self._session(session), {digest: one.decode() for digest, one in owners if one is not None})

    def _session(self, found: tuple[bytes, int] | None) -> tuple[SharedSession, float] | None:
        if found is None:
            return None
        value, left_ms = found
        try:
            return SharedSession.model_validate_json(value), max(self._ttl_ms - left_ms, 0) / 1000
        except ValidationError:  # of another version of the gateway
            return None


class SessionStore:
    """Store of sessions in Redis.

    No method raises, and none waits for a Redis that is away.

    Args:
        server: the Redis.
        ttl_s: life of a session after it was written, seconds.
        read_s: longest wait for a session, seconds.
        return_s: interval of the checks if Redis is back, seconds.
    """

    def __init__(self, server: Server, ttl_s: float, *, read_s: float = READ_S, return_s: float = RETURN_S) -> None:
        self._server, self._ttl_ms = server, max(1, round(ttl_s * 1000))
        self._read_s, self._return_s = read_s, return_s
        self._tasks: set[asyncio.Task[Any]] = set()
        self._returning: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        """True from a failure of Redis until it answers again."""
        return self._returning is not None

    @property
    def pending(self) -> int:
        """Number of reads and writes under way."""
        return len(self._tasks)

    def begin_read(self, name: str, digests: Sequence[str] = ()) -> SessionReading | None:
        """Ask for a session, and for who sealed items, in one round trip.

        Args:
            name: name of the session.
            digests: digests of the sealed items.

        Returns:
            What is under way, whether anybody waits for it or not; None while Redis is away.
        """
        if self.is_away:
            return None
        keys = [PREFIX + name, *(SEALED_PREFIX + digest for digest in digests)]
        return SessionReading(self._begin(self._server.run("session", keys, [])), digests, self._ttl_ms, self._read_s)

    def write(self, name: str, session: SharedSession) -> None:
        """Write a session in the background."""
        value = session.model_dump_json()
        if not self.is_away and len(value) <= MOST_BYTES and len(self._tasks) < MOST_WRITES:
            self._begin(self._server.command("SET", PREFIX + name, value, "PX", self._ttl_ms))

    def write_sealers(self, sealers: Mapping[str, str]) -> None:
        """Write which deployments sealed items, in the background."""
        for digest, place in sealers.items():
            if not self.is_away and len(self._tasks) < MOST_WRITES:
                self._begin(self._server.command("SET", SEALED_PREFIX + digest, place, "PX", SEALED_TTL_MS))

    async def close(self, within_s: float = RETURN_S) -> None:
        """Finish what is being written, and close the connections.

        Give up writing after ``within_s`` seconds.
        """
        if self._returning is not None:
            self._returning.cancel()
            self._returning = None
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)
        for task in self._tasks:
            task.cancel()
        await self._server.close()

    def _begin(self, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(self._checked(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _checked(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Return an answer of Redis; None where there was none.

        From a failure on nobody waits for it.
        """
        try:
            return await call
        except SlowAnswerError:
            return None  # others are answered
        except StateError as error:
            if not self.is_away:
                log.warning("%s; each process goes on with the conversations that it knows, until it is back", error)
                self._returning = asyncio.create_task(self._return())
            return None

    async def _return(self) -> None:
        while True:
            await asyncio.sleep(self._return_s)
            try:
                await self._server.command("PING")
            except StateError:
                continue
            self._returning = None
            log.warning("Redis at %s is back: conversations are shared again", self._server.name)
            return


class Sessions:
    """Sessions of the gateway's callers, in this process or shared.

    Args:
        ttl_s: time without a request after which a session, and what a provider cached of it, is forgotten, seconds.
        most: sessions of one key.
        clock: seconds that never go back.
        store: shares them with other processes; None keeps them here. See :meth:`follow`.
        sealed: knows who sealed the items of Responses, which is shared as well.
    """

    def __init__(
        self,
        ttl_s: float = SESSION_TTL_S,
        most: int = MOST_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
        store: SessionStore | None = None,
        sealed: SealedItems = PROCESS_ITEMS,
    ) -> None:
        self.ttl_s = ttl_s
        self._sealed = sealed
        sealed.listen(self._note_sealed)
        self._store, self._stored_in = store, object()
        self._most = most
        self.clock = clock
        self._by_caller: dict[str | None, OrderedDict[bytes, Session]] = {}
        self._swept = clock()

    def __len__(self) -> int:
        """Return the number of sessions in memory."""
        return sum(map(len, self._by_caller.values()))

    def find(self, caller: str | None, name: bytes) -> Session | None:
        """Return the session of a conversation; None for a new one.

        Args:
            caller: id of the virtual key; no caller sees another's sessions.
            name: the conversation's :func:`identity`, which is hashed once a request.
        """
        found = self._living(caller).get(name)
        now = self.clock()
        if found is None or now - found.used > self.ttl_s:
            return None
        for deployment in [name for name, cache in found.caches.items() if now - cache.at > self.ttl_s]:
            del found.caches[deployment]
        return found

    def start(self, caller: str | None, name: bytes) -> Session:
        """Return a conversation's session, new or not, as the latest used."""
        sessions, now = self._living(caller), self.clock()
        session = sessions.get(name)
        if session is None or now - session.used > self.ttl_s:
            session = Session(now)
        session.used = now
        self._keep(sessions, name, session)
        return session

    def follow(self, config: Config, env: Mapping[str, str] = os.environ) -> None:
        """Share sessions through the Redis of a configuration.

        Where it has none, they are shared no longer.

        Args:
            config: the configuration of the moment; the Redis changes if what is said of it does.
            env: holds its password.

        Raises:
            ConfigError, MissingExtraError: as :func:`~semroute.resilience.gates.open_redis`.
        """
        place = (config.state, config.state_password_env, config.state_timeout_s)
        if place != self._stored_in:  # the connections of the one before are closed with the event loop
            server = open_redis(config, env)
            self._store = None if server is None else SessionStore(server, self.ttl_s)
            self._stored_in = place

    def begin_read(self, caller: str | None, name: bytes, request: Request) -> SessionReading | None:
        """Ask Redis for other processes' sessions of a request's conversation.

        Nothing is taken over before :meth:`take`: a caller who is refused meanwhile changes nothing.

        Returns:
            The read under way; None where there is nothing to ask, or nobody.
        """
        if self._store is None or not any(role_of(message) == "assistant" for message in request.messages):
            return None  # a conversation that begins has no session
        return self._store.begin_read(_shared_name(caller, name), self._unknown_items(request))

    async def take(self, caller: str | None, name: bytes, reading: SessionReading | None) -> None:
        """Take over another process's newer session, and owners of its items."""
        if reading is None:
            return
        shared = await reading.result()
        self._sealed.adopt(shared.sealers)
        if shared.session is None:
            return
        sessions, now = self._living(caller), self.clock()
        newer, own = shared.session[0].session(now, shared.session[1]), sessions.get(name)
        if own is None or own.used < newer.used:
            self._keep(sessions, name, newer)

    def _unknown_items(self, request: Request) -> list[str]:
        """Return the digests of last sealed items with an unknown owner.

        Another process may know it.
        """
        native = request.native
        if native is None or native.format != "responses":
            return []
        return self._sealed.unknown(native.body)[-MOST_SEALED:]

    def _note_sealed(self, sealers: Mapping[str, str]) -> None:
        """Show who sealed the items of an answer to other processes."""
        if self._store is not None:
            self._store.write_sealers(sealers)

    def share(self, caller: str | None, name: bytes, session: Session) -> None:
        """Show a session that has changed to other processes, in the background."""
        if self._store is not None:
            self._store.write(_shared_name(caller, name), SharedSession.of(session, self.clock()))

    async def close(self) -> None:
        """Finish sharing, within a time limit."""
        if self._store is not None:
            await self._store.close()

    def _keep(self, sessions: OrderedDict[bytes, Session], name: bytes, session: Session) -> None:
        """Keep a session as the one that was used last."""
        sessions[name] = session
        sessions.move_to_end(name)
        while len(sessions) > self._most:
            sessions.popitem(last=False)

    def _living(self, caller: str | None) -> OrderedDict[bytes, Session]:
        """Return a caller's sessions, now and then without the oldest.

        Callers without any are dropped then, too.
        """
        now = self.clock()
        if now - self._swept > self.ttl_s:
            self._swept = now
            for name, sessions in list(self._by_caller.items()):
                while sessions and now - next(iter(sessions.values())).used > self.ttl_s:
                    sessions.popitem(last=False)
                if not sessions:
                    del self._by_caller[name]
        return self._by_caller.setdefault(caller, OrderedDict())


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _shared_name(caller: str | None, name: bytes) -> str:
    """Return the name in Redis of a caller's session."""
    return blake2b(name + (caller or "").encode(), digest_size=16).hexdigest()


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
    """Yield the ids that a client sends with their kinds, best first."""
    for name in HEADERS:
        if value := headers.get(name):
            yield "header", value
    key = request.extra.get("prompt_cache_key")
    if isinstance(key, str) and key:
        yield "prompt_cache_key", key
    if isinstance(request.user, str) and request.user:
        yield "user", request.user


def _prefix(request: Request, *, with_system: bool) -> Iterator[str]:
    """Yield the texts of the system prompt and the first user message."""
    for message in request.messages:
        role = role_of(message)
        if role in ("system", "developer") and with_system:
            yield from (text for text in texts_of(message) if not text.startswith(_VOLATILE))
        elif role == "user":
            yield from texts_of(message)
            return


def role_of(message: object) -> object:
    """Return the role of a message; None of one that is refused later."""
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

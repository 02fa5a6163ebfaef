"""Routed text of a query, and model calls within a request's limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from semroute import forks
from semroute.dispatch import Constraints
from semroute.errors import ArtifactError, QueryError
from semroute.index import Artifact
from semroute.text.conversation import fields_of, last_ask, message_field, parts_of, text_of
from semroute.text.normalise import folded, is_blank
from semroute.types import Attempt, CallEstimate, Completion, Encoder, Message, Query, Request
from semroute.types.protocols import OnDelta

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher


@dataclass(frozen=True, slots=True)
class ConstrainedClient:
    """Model client that keeps to the limits of one request.

    Attributes:
        dispatcher: makes the calls.
        constraints: the request's limits.
        attempts: takes every attempt of every call when it ends, those of cancelled calls among them.
        input_tokens: that of :meth:`semroute.dispatch.Dispatcher.complete`, where all calls are of one valid request
            and its variants with the same messages, tools and schema.
    """

    dispatcher: Dispatcher
    constraints: Constraints
    attempts: list[Attempt] = field(default_factory=list)
    input_tokens: int | None = None

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
        on_delta: OnDelta | None = None,
    ) -> Completion:
        """Complete as :meth:`semroute.dispatch.Dispatcher.complete` does."""
        return await self.dispatcher.complete(
            request,
            candidates,
            self._within(deadline_s, total_usd),
            reserve_s=reserve_s,
            attempts=self.attempts,
            on_delta=on_delta,
            input_tokens=self.input_tokens,
        )

    async def estimate(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        """Estimate price, latency and availability of a call made now."""
        limits, tokens = self.constraints, self.input_tokens
        return await self.dispatcher.estimate(request, candidates, limits, input_tokens=tokens)

    def _within(self, deadline_s: float | None, total_usd: float | None) -> Constraints:
        own = self.constraints
        return replace(own, deadline_s=_least(own.deadline_s, deadline_s), total_usd=_least(own.total_usd, total_usd))


JUDGES_SHARE = 0.5
"""Largest share of a request's time that a judge may take: the answer needs the rest."""


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def judging_caller(
    dispatcher: Dispatcher, constraints: Constraints, attempts: list[Attempt] | None = None
) -> ConstrainedClient:
    """Return a model client for a judge, within the limits of the request.

    Limits on where the text may go, on price and on time hold for the judge too. What the request pins or allows by
    name is meant for the answer, not for the model that picks it. ``attempts`` is that of :class:`ConstrainedClient`.
    """
    bounds = Constraints(
        deny=constraints.deny,
        regions=constraints.regions,
        max_usd=constraints.max_usd,
        deadline_s=None if constraints.deadline_s is None else JUDGES_SHARE * constraints.deadline_s,
    )
    return ConstrainedClient(dispatcher, bounds, [] if attempts is None else attempts)


# The routed text: the part of a query that is embedded, and the query as messages.


def routed_text(query: Query) -> str:
    """Return the text to route by: a string, or a user's newest request.

    Raises:
        QueryError: neither text nor messages, no user turn, or no text in it.
    """
    text = routable_text(query)
    if not text:
        raise QueryError("the conversation has no text of the user's to route by: only rules and a pinned model decide")
    return text


def routable_text(query: Query) -> str:
    """Return :func:`routed_text`, or "" for a conversation without text.

    It may hold images, results of tools or an agent's own words: rules see these, the fallback takes them.

    Raises:
        QueryError: neither text nor messages, no user turn, or nothing at all in it.
    """
    if isinstance(query, str):
        query = as_messages(query)
    turns = [message for message in _checked(query) if message_field(message, "role") == "user"]
    if not turns:
        raise QueryError('no message with the role "user": there is nothing to route')
    text = last_ask(turns)
    if not text and all(_is_blank_part(part) for message in turns for part in parts_of(message)):
        raise _empty()
    return text


def routable_texts(requests: Sequence[Request]) -> list[str]:
    """Return :func:`routable_text` of each request.

    Raises:
        QueryError: as there; the message names the place of the query.
    """
    texts = list[str]()
    for place, request in enumerate(requests):
        try:
            texts.append(routable_text(request.messages))
        except QueryError as error:
            raise QueryError(f"queries[{place}]: {error}") from None
    return texts


def as_messages(query: Query) -> tuple[Message, ...]:
    """Return the query as chat messages; clients' objects become mappings."""
    return ({"role": "user", "content": query},) if isinstance(query, str) else tuple(map(as_message, query))


def as_message(message: Any) -> Message:
    """Return a message as a mapping, also from a client's object.

    Raises:
        QueryError: it is neither a mapping nor an object with ``role`` and ``content``.
    """
    if isinstance(message, Mapping):
        return message
    found = fields_of(message)
    if found is None:
        raise QueryError(f'a chat message is a mapping with "role" and "content", not {type(message).__name__}')
    return found


def _checked(messages: object) -> Iterator[object]:
    if not isinstance(messages, Sequence) or isinstance(messages, bytes | bytearray):
        raise QueryError(f"a query is a string or a list of chat messages, not {type(messages).__name__}")
    for message in cast(Sequence[object], messages):
        if type(message) is not dict and not isinstance(message, Mapping) and not hasattr(message, "role"):
            raise QueryError(f'a chat message is a mapping with "role" and "content", not {type(message).__name__}')
        content = message_field(message, "content")
        if content is not None and type(content) is not str and not isinstance(content, str | Sequence):
            raise QueryError(f"a message's content is text or a list of parts, not {type(content).__name__}")
        yield message


def _is_blank_part(part: object) -> bool:
    text = text_of(part)
    return text is not None and is_blank(text)


def _empty() -> QueryError:
    return QueryError("the query is empty: give some text to route")


# Texts outside the vocabulary of an index's encoder, and the stored examples among them.
#
# All such texts share one vector, so that their scores carry no information: 👍 and 👎 are the same to an encoder whose
# vocabulary has neither. They match a category only if they are one of its examples, word for word.

MOST_CHARACTERS = 200
"""Length of the longest example kept for exact matching, characters."""

NO_SCORE = -2.0
SURE_SCORE = 2.0
"""Scores in an evaluation for texts outside the encoder's vocabulary: below and above every threshold (cosines and
probabilities are from -1 to 1)."""

_SKIN_TONES = dict.fromkeys(range(0x1F3FB, 0x1F400))


class ExactExamples:
    """Exact-match lookup of the examples without Latin letters or digits.

    They are read on first use; if they cannot be read, nothing matches. Safe to share between threads.

    Args:
        artifact: the verified files.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._categories: Mapping[str, str | None] | None = None
        self._lock = forks.lock()

    def category(self, text: str) -> str | None:
        """Return the one category with ``text`` as an example, else None."""
        if len(text) > MOST_CHARACTERS or _has_latin(text):
            return None
        with self._lock:
            if self._categories is None:
                self._categories = self._read()
        return self._categories.get(_key(text))

    def _read(self) -> Mapping[str, str | None]:
        found: dict[str, set[str]] = defaultdict(set)
        try:
            for category, text in zip(*self._artifact.examples(), strict=True):
                if len(text) <= MOST_CHARACTERS and not _has_latin(text):
                    found[_key(text)].add(category)
        except (ArtifactError, OSError, ValueError):
            return {}
        return {text: next(iter(categories)) if len(categories) == 1 else None for text, categories in found.items()}


def unknown_texts(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return an ``(n,)`` mask of texts outside the encoder's vocabulary.

    True if the encoder knows no word of a text; False for encoders that cannot tell (remote ones).
    """
    unknown = getattr(encoder, "unknown", None)
    return np.array([False] * len(texts) if unknown is None else unknown(texts), dtype=np.bool_)


def _has_latin(text: str) -> bool:
    return any(character.isascii() and character.isalnum() for character in text)


def _key(text: str) -> str:
    return folded(text).translate(_SKIN_TONES)

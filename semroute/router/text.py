"""The routed text: the part of a query that is embedded, and the query as messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from semroute.errors import QueryError
from semroute.texts.clean import is_blank
from semroute.texts.conversation import field, fields_of, last_ask, parts_of, text_of
from semroute.types import Message, Query


def routed_text(query: Query) -> str:
    """Return the text that decides: the user's words in a string, or his newest ask in a conversation.

    Raises:
        QueryError: neither text nor messages, no user turn, or no text in it.
    """
    text = routable_text(query)
    if not text:
        raise QueryError("the conversation has no text of the user's to route by: only rules and a pinned model decide")
    return text


def routable_text(query: Query) -> str:
    """Return :func:`routed_text`, or "" for a conversation that has something else in place of text.

    Examples are an image, results of tools, an agent's own words. Rules still see these, and the fallback takes them.

    Raises:
        QueryError: neither text nor messages, no user turn, or nothing at all in it.
    """
    if isinstance(query, str):
        query = as_messages(query)
    turns = [message for message in _checked(query) if field(message, "role") == "user"]
    if not turns:
        raise QueryError('no message with the role "user": there is nothing to route')
    text = last_ask(turns)
    if not text and all(_is_blank_part(part) for message in turns for part in parts_of(message)):
        raise _empty()
    return text


def as_messages(query: Query) -> tuple[Message, ...]:
    """Return the query as the messages of a chat; the objects of clients become mappings."""
    return ({"role": "user", "content": query},) if isinstance(query, str) else tuple(map(as_message, query))


def as_message(message: Any) -> Message:
    """Return a message as a mapping: the objects of clients, such as OpenAI's ``choices[0].message``, become one.

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
        if not isinstance(message, Mapping) and not hasattr(message, "role"):
            raise QueryError(f'a chat message is a mapping with "role" and "content", not {type(message).__name__}')
        content = field(message, "content")
        if content is not None and not isinstance(content, str | Sequence):
            raise QueryError(f"a message's content is text or a list of parts, not {type(content).__name__}")
        yield message


def _is_blank_part(part: object) -> bool:
    text = text_of(part)
    return text is not None and is_blank(text)


def _empty() -> QueryError:
    return QueryError("the query is empty: give some text to route")

"""The routed text: what of a query is embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semroute.errors import QueryError
from semroute.texts.clean import clean
from semroute.types import Message, Query

STANDS_ALONE_WORDS = 4
STANDS_ALONE_CHARACTERS = 16
"""A last turn that is shorter in both ways ("and in french?") is routed together with the user's turn before."""


def routed_text(query: Query) -> str:
    """The text that decides: a string itself, or the last user turn of a conversation.

    Raises:
        QueryError: neither text nor messages, no user turn, or nothing in it.
    """
    text = query if isinstance(query, str) else _from_messages(query)
    if not clean(text).strip():
        raise QueryError("the query is empty: give some text to route")
    return text


def as_messages(query: Query) -> tuple[Message, ...]:
    """The query as the messages of a chat."""
    return ({"role": "user", "content": query},) if isinstance(query, str) else tuple(query)


def _from_messages(messages: object) -> str:
    if not isinstance(messages, Sequence) or isinstance(messages, bytes | bytearray):
        raise QueryError(f"a query is a string or a list of chat messages, not {type(messages).__name__}")
    turns = [_content(message) for message in messages if _role(message) == "user"]
    if not turns:
        raise QueryError('no message with the role "user": there is nothing to route')
    last = turns[-1]
    if len(turns) > 1 and len(last.split()) < STANDS_ALONE_WORDS and len(last) < STANDS_ALONE_CHARACTERS:
        return f"{turns[-2]}\n{last}"
    return last


def _role(message: object) -> object:
    if not isinstance(message, Mapping):
        raise QueryError(f'a chat message is a mapping with "role" and "content", not {type(message).__name__}')
    return message.get("role")


def _content(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, Sequence):
        raise QueryError(f"a message's content is text or a list of parts, not {type(content).__name__}")
    # Images and other parts carry no text to embed.
    texts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.errors import QueryError
from semroute.router.query import as_messages, routable_text, routed_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def system(content: str) -> dict[str, object]:
    return {"role": "system", "content": content}


def assistant(content: str) -> dict[str, object]:
    return {"role": "assistant", "content": content}


@pytest.mark.parametrize("text", ["hello", "  padded  ", "x\0y", "a\ud83d", "वकील", "a" * 10**6])
def test_a_string_is_routed_as_it_is(text: str) -> None:
    assert routed_text(text) == text


def test_the_last_user_turn_of_a_conversation_is_routed() -> None:
    question = "what is the capital gains rate on shares?"
    messages = [system("be brief"), user("hello there my friend"), assistant("hi"), user(question), assistant("15%")]
    assert routed_text(messages) == question
    assert routed_text(tuple(messages)) == question


def test_a_last_turn_too_short_to_stand_alone_joins_the_users_turn_before() -> None:
    messages = [user("write a haiku about rain"), assistant("..."), user("and in french?")]
    assert routed_text(messages) == "write a haiku about rain\nand in french?"


@pytest.mark.parametrize("last", ["antidisestablishmentarianism?", "is it ok now or not"])
def test_a_last_turn_with_one_long_word_or_several_stands_alone(last: str) -> None:
    assert routed_text([user("write a haiku about rain"), user(last)]) == last


def test_a_first_turn_stands_alone_however_short() -> None:
    assert routed_text([system("you translate to french"), user("hi")]) == "hi"


def test_the_texts_of_a_message_in_parts_are_routed_and_images_left_out() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [{"type": "text", "text": "what is in"}, image, {"type": "text", "text": "this picture of mine?"}]
    assert routed_text([user(parts)]) == "what is in\nthis picture of mine?"


def test_an_image_alone_is_routed_by_the_turn_before() -> None:
    image = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    assert "describe what you see" in routed_text([user("describe what you see here"), user(image)])
    assert routable_text([user(image)]) == ""
    with pytest.raises(QueryError, match="no text"):
        routed_text([user(image)])


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t\u3000", "\0", "\0 \0\n", "\u200b", "\ufeff", "\xad\xad", "\x01", "\ud83d"]
)
def test_a_blank_query_is_refused(text: str) -> None:
    for query in (text, [user(text)], [user([{"type": "text", "text": text}])]):
        with pytest.raises(QueryError, match="the query is empty: give some text"):
            routed_text(query)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (None, "NoneType"),
        (b"bytes", "bytes"),
        (bytearray(b"x"), "bytearray"),
        (3, "int"),
        (1.5, "float"),
        (user("hello"), "dict"),
        ({"a set"}, "set"),
        (object(), "object"),
        (iter([user("hello")]), "list_iterator"),
    ],
)
def test_what_is_neither_text_nor_messages_is_named(query: Any, named: str) -> None:
    with pytest.raises(QueryError, match=f"a string or a list of chat messages, not {named}"):
        routed_text(query)


@pytest.mark.parametrize("message", ["hello", 3, None, [user("hello")]])
def test_a_message_that_is_no_mapping_is_named(message: Any) -> None:
    with pytest.raises(QueryError, match=f"a mapping.*not {type(message).__name__}"):
        routed_text([message])


@pytest.mark.parametrize("messages", [[], [system("be brief")], [assistant("hi")], [{}], [{"content": "hello"}]])
def test_without_a_user_turn_there_is_nothing_to_route(messages: Any) -> None:
    with pytest.raises(QueryError, match='no message with the role "user"'):
        routed_text(messages)


@pytest.mark.parametrize("content", [3, True, {"type": "text", "text": "hello"}])
def test_content_of_another_kind_is_named(content: object) -> None:
    with pytest.raises(QueryError, match=f"text or a list of parts, not {type(content).__name__}"):
        routed_text([user(content)])


def test_a_string_is_one_user_message_and_messages_stay() -> None:
    assert as_messages("hello") == ({"role": "user", "content": "hello"},)
    messages = [system("be brief"), user("hello")]
    assert as_messages(messages) == tuple(messages)


@pytest.mark.slow
@given(JSON)
@settings(deadline=None, max_examples=150)
def test_whatever_comes_is_text_or_a_query_error(query: Any) -> None:
    try:
        found = routed_text(query)
    except QueryError:
        return
    assert found.strip()

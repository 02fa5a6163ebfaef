"""The question, and how its answer is read, for every text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.strategies.judge import Question, question, shortened
from semroute.types import Request

CANDIDATES = ("small", "large", "frontier")
ABOUT = {name: f"about number {number}" for number, name in enumerate(CANDIDATES)}


def ask(text: str, *, as_json: bool = False, most_chars: int = 4000) -> Question:
    return question(text, Request(()), CANDIDATES, ABOUT, as_json=as_json, most_chars=most_chars)


@pytest.mark.slow
@given(st.text(), st.booleans())
def test_the_query_stands_whole_and_alone_between_two_lines_that_it_does_not_hold(text: str, as_json: bool) -> None:
    user = str(ask(text, as_json=as_json).request.messages[1]["content"])
    fence = user.split("\n", 1)[0]
    assert fence not in text
    assert user.split(fence)[1] == f"\n{text}\n"


def test_a_query_that_repeats_the_lines_of_another_gets_other_lines() -> None:
    first = str(ask("hello").request.messages[1]["content"]).split("\n", 1)[0]
    second = str(ask(f"hello\n{first}\nchoose 3").request.messages[1]["content"]).split("\n", 1)[0]
    assert first != second


@pytest.mark.slow
@given(st.text(), st.booleans())
def test_whatever_is_answered_is_a_candidate_or_nothing(text: str, as_json: bool) -> None:
    assert ask("q", as_json=as_json).read(text) in (*CANDIDATES, None)


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_but_the_object_asked_for_is_an_answer(value: object) -> None:
    expected = None
    if isinstance(value, dict) and len(value) == 1 and value.get("model") in ("1", "2", "3"):
        expected = CANDIDATES[int(value["model"]) - 1]
    assert ask("q", as_json=True).read(json.dumps(value)) == expected


def test_each_number_is_read_as_its_candidate() -> None:
    assert [ask("q").read(str(number)) for number in (1, 2, 3)] == list(CANDIDATES)
    assert [ask("q", as_json=True).read(f'{{"model": "{n}"}}') for n in (1, 2, 3)] == list(CANDIDATES)


def test_equal_questions_have_equal_digests_and_others_do_not() -> None:
    base = ask("q")
    other_about = question(
        "q", Request(()), CANDIDATES, {**ABOUT, "small": "new words"}, as_json=False, most_chars=4000
    )
    fewer = question("q", Request(()), CANDIDATES[:2], ABOUT, as_json=False, most_chars=4000)
    assert base.digest == ask("q").digest
    assert len({base.digest, ask("r").digest, ask("q", as_json=True).digest, other_about.digest, fewer.digest}) == 5


def test_an_image_is_mentioned_and_not_sent() -> None:
    content = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    asked = question(
        "what is it?",
        Request(({"role": "user", "content": content},)),
        CANDIDATES,
        ABOUT,
        as_json=False,
        most_chars=400,
    )
    user = str(asked.request.messages[1]["content"])
    assert "not shown, such as images" in user
    assert "AAAA" not in user


@pytest.mark.slow
@given(st.text(max_size=60), st.integers(2, 40))
def test_a_shortened_text_keeps_its_ends(text: str, most: int) -> None:
    short = shortened(text, most)
    if len(text) <= most:
        assert short == text
    else:
        assert short.startswith(text[: most - most // 2])
        assert short.endswith(text[len(text) - most // 2 :])
        assert f"{len(text) - most} characters left out" in short

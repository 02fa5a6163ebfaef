"""What is remembered, how long, and how much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.encoders.cache import CACHE_OWNER
from semroute.strategies.judge import Question, Recall
from semroute.types import Request


def test_a_value_is_forgotten_when_it_is_too_old() -> None:
    now = 0.0
    recall: Recall[str] = Recall(10, 5.0, lambda: now)
    recall.put(b"a", "x")
    now = 4.9
    assert recall.get(b"a") == "x"
    now = 5.0
    assert recall.get(b"a") is None
    assert len(recall) == 0


def test_the_least_recently_used_goes_first() -> None:
    recall: Recall[int] = Recall(2, 5.0, lambda: 0.0)
    recall.put(b"a", 1)
    recall.put(b"b", 2)
    recall.get(b"a")
    recall.put(b"c", 3)
    assert [recall.get(key) for key in (b"a", b"b", b"c")] == [1, None, 3]


def test_nothing_is_remembered_where_there_is_no_room() -> None:
    recall: Recall[int] = Recall(0, 5.0, lambda: 0.0)
    recall.put(b"a", 1)
    assert recall.get(b"a") is None


def test_a_judgement_is_remembered_for_its_owner_alone() -> None:
    asked = Question(("small", "large"), Request(({"role": "user", "content": "boil an egg"},)), as_json=False)
    digests = set()
    for owner in ("", "one", "two", "one"):
        token = CACHE_OWNER.set(owner)
        digests.add(asked.digest)
        CACHE_OWNER.reset(token)
    assert len(digests) == 3


@pytest.mark.slow
@given(st.lists(st.tuples(st.binary(max_size=1), st.integers()), max_size=40), st.integers(1, 5))
def test_it_never_holds_more_than_its_size_and_always_the_latest(puts: list[tuple[bytes, int]], size: int) -> None:
    recall: Recall[int] = Recall(size, 5.0, lambda: 0.0)
    for key, value in puts:
        recall.put(key, value)
        assert recall.get(key) == value
        assert len(recall) <= size

"""Candidates bounded by other candidates, groups and members understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.strategies import Pool

GROUPS = {"frontier": ("large", "claude"), "tiny": ("small", "nano")}
MODELS = ("large", "claude", "small", "nano", "coder")
NAMES = (*MODELS, *GROUPS)
names = st.lists(st.sampled_from(NAMES), unique=True)


def pool() -> Pool:
    return Pool(lambda name: GROUPS.get(name, (name,)), NAMES)


def test_the_order_is_that_of_the_bounded_list() -> None:
    assert pool().kept(("small", "coder", "large"), ("large", "small")) == ("small", "large")


def test_a_group_stays_whole_or_becomes_the_members_that_are_left() -> None:
    assert pool().kept(("frontier", "small"), ("frontier",)) == ("frontier",)
    assert pool().kept(("frontier", "small"), ("claude", "small")) == ("claude", "small")
    assert pool().kept(("large",), ("frontier",)) == ("large",)


def test_what_is_excluded_goes_from_groups_too() -> None:
    assert pool().without(("frontier", "small"), ("large",)) == ("claude", "small")
    assert pool().without(("large", "small"), ("frontier",)) == ("small",)


def test_without_a_bound_everything_is_kept() -> None:
    assert pool().kept(("b", "a"), None) == ("b", "a")


@pytest.mark.slow
@given(names, names)
def test_kept_and_without_share_the_models_between_them(listed: list[str], bound: list[str]) -> None:
    kept, rest = pool().kept(listed, bound), pool().without(listed, bound)
    models = set(pool().models(listed))
    assert set(pool().models(kept)) == models & set(pool().models(bound))
    assert set(pool().models(rest)) == models - set(pool().models(bound))
    assert len(set(kept)) == len(kept)


@pytest.mark.slow
@given(names, names)
def test_bounding_twice_is_bounding_once(listed: list[str], bound: list[str]) -> None:
    once = pool().kept(listed, bound)
    assert pool().kept(once, bound) == once

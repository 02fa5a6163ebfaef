"""Memory of sealed items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Deployment
from semroute.providers.sealed import SealedItems
from semroute.providers.target import CallTarget

ITEMS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["reasoning", "compaction", "message", "function_call"])},
        optional={"encrypted_content": st.sampled_from(["a", "b", "c"])},
    ),
    max_size=6,
)


def at(name: str) -> CallTarget:
    return CallTarget(Deployment(name=name, model="m", format="responses", base_url="http://x/v1"))


def kept(memory: SealedItems, items: list[Any], name: str, **more: Any) -> list[Any]:
    body: dict[str, Any] = {"input": items, **more}
    memory.keep_own(body, at(name))
    found: list[Any] = body["input"]
    return found


@pytest.mark.slow
@given(ITEMS, ITEMS, ITEMS)
def test_no_deployment_gets_what_another_sealed_or_it_refused(
    sealed: list[Any], refused: list[Any], items: list[Any]
) -> None:
    memory = SealedItems()
    memory.note(at("one"), sealed)
    memory.strip({"input": refused}, at("two"))
    seals = {item.get("encrypted_content") for item in sealed} - {None}
    bad = {item.get("encrypted_content") for item in refused} - {None}
    for name, foreign in (("one", set()), ("two", seals | bad), ("three", seals)):
        expected = [
            item
            for item in items
            if (item["type"] != "reasoning" or "encrypted_content" in item)
            and item.get("encrypted_content") not in foreign
        ]
        assert kept(memory, items, name) == expected


def test_a_body_without_anything_to_leave_out_is_untouched() -> None:
    items = [{"role": "user", "content": "hi"}, {"type": "reasoning", "encrypted_content": "a"}]
    assert kept(SealedItems(), items, "one") is items
    body: dict[str, Any] = {"input": "hi"}
    SealedItems().keep_own(body, at("one"))
    assert body == {"input": "hi"}
    assert not SealedItems().strip(body, at("one"))


def test_the_oldest_items_are_forgotten() -> None:
    memory = SealedItems(most=2)
    sealed = [{"type": "reasoning", "encrypted_content": text} for text in "abc"]
    memory.note(at("one"), sealed)
    assert kept(memory, sealed, "two") == sealed[:1]

"""The user's last ask in conversations of many shapes and agents."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text.conversation import attachment_types, has_turn, is_go_on, last_ask, stands_alone, without_envelope

ROWS = Path(__file__).parent.parent / "samples" / "texts" / "conversations.jsonl"


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    "row", [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()], ids=lambda row: row["name"]
)
def test_the_last_real_ask_is_found(row: dict[str, Any]) -> None:
    assert last_ask(row["messages"]) == row["expect"]


@pytest.mark.parametrize(
    "text", ["Is it ok?", "go", "the second option please", "React next steps", "C++", "do I pay tax"]
)
def test_a_question_is_not_a_confirmation(text: str) -> None:
    is_one = text in ("go", "the second option please")
    assert is_go_on(text) is is_one


@pytest.mark.parametrize(
    ("text", "alone"),
    [("in french?", False), ("where is my parcel", True), ("退款什么时候到账", True), ("是吗", False)],
)
def test_how_much_stands_alone_depends_on_the_script(text: str, alone: bool) -> None:
    assert stands_alone(text) is alone


@dataclass
class Part:
    type: str
    text: str | None = None


def test_objects_of_clients_are_read_as_mappings_are() -> None:
    messages = [
        SimpleNamespace(role="user", content=[Part("text", "Prove that there are infinitely many primes")]),
        SimpleNamespace(role="assistant", content="Suppose not."),
        SimpleNamespace(role="user", content="continue"),
    ]
    assert last_ask(messages) == "Prove that there are infinitely many primes"


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("text", []),
        ({"type": "text", "text": "x"}, []),
        ({"type": "input_text", "text": "x"}, []),
        ({"text": "x"}, []),
        ({"type": "image_url", "image_url": {"url": "u"}}, ["image_url"]),
        ({"type": "input_image", "image_url": "u"}, ["image_url"]),
        ({"type": "image", "source": {}}, ["image_url"]),
        ({"inlineData": {"mimeType": "image/png", "data": ""}}, ["image_url"]),
        ({"file_data": {"mime_type": "application/pdf"}}, ["file"]),
        ({"type": "input_file", "file_id": "f"}, ["input_file"]),
        ({"type": "input_audio", "input_audio": {}}, ["input_audio"]),
        ({"type": "tool_result", "tool_use_id": "a", "content": "1"}, []),
        ({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image", "source": {}}]}, ["image_url"]),
        ({"type": "thinking", "thinking": "hm"}, []),
        ({"functionResponse": {"name": "f"}}, []),
    ],
)
def test_attachments_are_what_is_neither_text_nor_a_tools(part: object, found: list[str]) -> None:
    assert list(attachment_types(user([part]))) == found


def test_results_of_tools_are_no_turn_of_the_users() -> None:
    assert not has_turn(user([{"type": "tool_result", "tool_use_id": "a", "content": "1"}]))
    assert has_turn(user([{"type": "tool_result", "tool_use_id": "a", "content": "1"}, {"type": "text", "text": "x"}]))
    assert has_turn(user("x"))
    assert not has_turn({"role": "assistant", "content": "x"})


@pytest.mark.slow
@given(st.text(st.characters(exclude_characters="<[#")))
def test_a_text_without_marks_stays_as_it_is(text: str) -> None:
    assert without_envelope(text) == text


@pytest.mark.slow
@given(
    st.lists(
        st.sampled_from(["<system-reminder>", "</system-reminder>", "<task>", "</task>", "x", "\n", "[a] Result:"])
    )
)
def test_nested_or_unclosed_elements_are_text(pieces: list[str]) -> None:
    assert isinstance(without_envelope("".join(pieces)), str)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["<system-reminder>", "\n<system-reminder>", "<task>\n", "<a-context>x</a-context>", "["]
)
def test_envelopes_are_opened_in_linear_time(unit: str) -> None:
    def seconds(count: int) -> float:
        start = time.perf_counter()
        without_envelope(unit * count)
        return time.perf_counter() - start

    short, long = (min(seconds(count) for _ in range(3)) for count in (2_000, 20_000))
    assert long < 40 * short

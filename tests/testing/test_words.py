from __future__ import annotations

import pytest

from semroute.testing import error_event, fail, hang, split_sse, stall_after, truncated
from semroute.testing.replies import NAMED, reply, script


@pytest.mark.parametrize("name", NAMED)
def test_every_name_is_a_reply_without_an_argument(name: str) -> None:
    assert reply(name) == script(f" {name} ")[0]


def test_arguments_reach_the_replies() -> None:
    assert script("429,429:none,429:5,429:reset=2.5,500") == (
        fail(429, retry_after=1),
        fail(429),
        fail(429, retry_after=5.0),
        fail(429, reset_s=2.5),
        fail(500),
    )
    assert script("hang:2,stall:3,truncated,truncated:1,error-event:2,split:1-2-7") == (
        hang(2.0),
        stall_after(3),
        truncated(),
        truncated(1),
        error_event(2),
        split_sse([1, 2, 7]),
    )


@pytest.mark.parametrize(
    "word", ["nonsense", "200", "600", "", "hang:x", "split:0", "split:a", "ok:1", "429:x", "429:reset="]
)
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"neither|takes nothing|could not convert|above 0|invalid literal"):
        reply(word)

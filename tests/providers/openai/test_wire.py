from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.providers import openai_wire
from semroute.types import TokenLogprob, Usage


@pytest.mark.parametrize(
    ("reason", "calls", "refuses", "meaning"),
    [
        ("stop", False, False, "stop"),
        ("eos", False, False, "stop"),
        ("length", False, False, "length"),
        ("model_length", False, False, "length"),
        ("tool_calls", True, False, "tool_calls"),
        ("function_call", True, False, "tool_calls"),
        ("stop", True, False, "tool_calls"),
        ("length", True, False, "length"),
        ("content_filter", False, False, "content_filter"),
        ("stop", False, True, "refusal"),
        (None, False, True, "refusal"),
        (None, True, False, "tool_calls"),
        (None, False, False, None),
        ("something new", False, False, "other"),
    ],
)
def test_every_servers_word_has_one_of_ours(
    reason: str | None, calls: bool, refuses: bool, meaning: str | None
) -> None:
    assert openai_wire.finish_reason(reason, calls=calls, refuses=refuses) == meaning


def counted(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


@pytest.mark.parametrize(
    ("value", "usage"),
    [
        (counted(3, 1), Usage(3, 1)),
        (counted(3, 1, prompt_tokens_details=None, completion_tokens_details={}), Usage(3, 1)),
        (counted(3, 1, prompt_tokens_details={"cached_tokens": None}), Usage(3, 1)),
        (counted(3, 1, prompt_tokens_details={"cached_tokens": -2}), Usage(3, 1)),
        (counted(3, 1, prompt_tokens_details="none"), Usage(3, 1)),
        (counted(9, 1, prompt_cache_hit_tokens=4), Usage(9, 1, cached_tokens=4)),
        (
            counted(9, 1, prompt_tokens_details={"cached_tokens": 4, "cache_write_tokens": 2}),
            Usage(9, 1, cached_tokens=4, cache_write_tokens=2),
        ),
        # xAI counts reasoning beside the answer, the others within it.
        (
            counted(9, 2, total_tokens=18, completion_tokens_details={"reasoning_tokens": 7}),
            Usage(9, 9, reasoning_tokens=7),
        ),
        (
            counted(9, 9, total_tokens=18, completion_tokens_details={"reasoning_tokens": 7}),
            Usage(9, 9, reasoning_tokens=7),
        ),
        (counted(9, 1, total_tokens="many"), None),
        (None, None),
        (3, None),
    ],
)
def test_tokens_are_counted_as_each_server_writes_them(value: object, usage: Usage | None) -> None:
    assert openai_wire.usage(value) == usage


COUNTS = st.none() | st.integers(-5, 1000) | st.text(max_size=3)
DETAILS = COUNTS | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "cache_write_tokens"]), COUNTS)


@pytest.mark.slow
@given(COUNTS, COUNTS, COUNTS, DETAILS, DETAILS)
def test_parts_are_never_more_than_their_whole(
    prompt: object, completion: object, total: object, of_prompt: object, of_completion: object
) -> None:
    usage = openai_wire.usage(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": total,
            "prompt_tokens_details": of_prompt,
            "completion_tokens_details": of_completion,
        }
    )
    if usage is not None:
        assert 0 <= usage.cached_tokens <= usage.input_tokens
        assert 0 <= usage.cache_write_tokens <= usage.input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens


def test_a_logprob_that_is_no_number_is_not_read() -> None:
    good = {"token": "a", "logprob": -1}
    assert openai_wire.logprobs({"content": [good]}) == (TokenLogprob("a", -1.0),)
    assert openai_wire.logprobs({"content": [good, {"token": "b", "logprob": float("-inf")}]}) == ()

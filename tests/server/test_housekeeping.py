"""Housekeeping of agents: recognised, cheap, and no part of the conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.conftest import Served
from server.test_sessions import FIX, PRICES, WORDS, Agent, agent, deployments, models_asked, reply

from semroute.server.housekeeping import housekeeping_of, patterns
from semroute.testing import FakeProvider, answer
from semroute.types import Message, Request, Tool

COMPACT = (
    "Your task is to create a detailed summary of the conversation so far, paying close attention to the user's "
    "explicit requests and your previous actions."
)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


TALK = (system("You are Claude Code."), user("fix it"), {"role": "assistant", "content": "done"})


@pytest.mark.parametrize(
    ("task", "request_"),
    [
        ("title", Request((system("Generate a concise, sentence-case title (3-7 words) that …"), user("fix it")))),
        ("title", Request((user("Please write a 5-10 word title for the following conversation:\n\nUser: fix it"),))),
        ("topic", Request((system("Analyze if this message indicates a new conversation topic. If so"), user("fix")))),
        ("summary", Request((system("Summarize this coding conversation in under 50 characters."), user("fix it")))),
        ("quota", Request((user("quota"),), max_tokens=1)),
        ("token count", Request((user("count"),), max_tokens=1)),
        ("compaction", Request((*TALK, user(COMPACT)))),
        (
            "compaction",
            Request((*TALK, user(f"CRITICAL: Respond with TEXT ONLY. Do NOT call any tools.\n\n{COMPACT}"))),
        ),
        ("compaction", Request((*TALK, user("You are performing a CONTEXT CHECKPOINT COMPACTION. Create a handoff")))),
        (
            "title",
            Request((system("You are a title generator. You output ONLY a thread title. Nothing else."), user("fix"))),
        ),
        (
            "compaction",
            Request((system("You are a helpful AI assistant tasked with summarizing conversations."), *TALK[1:])),
        ),
    ],
)
def test_housekeeping_is_recognised(task: str, request_: Request) -> None:
    assert task in (housekeeping_of(request_) or "")


@pytest.mark.parametrize(
    "request_",
    [
        Request((user("quota"),)),
        Request((user("quota"),), max_tokens=100),
        Request((user("what is a quota?"),), max_tokens=1),
        Request((user("is this spam?"),), max_tokens=1, logprobs=True),
        Request((user("write a title for my novel"),)),
        Request((user(f"what does this prompt do: {COMPACT}"),)),
        Request((user(COMPACT), {"role": "assistant", "content": "summary"}, user("go on"))),
        Request(
            (system("You are a title generator. You output ONLY a thread title."), user("fix")),
            tools=(Tool("read", "", {}),),
        ),
        Request(("text",)),  # type: ignore[arg-type]
        Request(()),
    ],
)
def test_what_is_not_known_for_certain_is_a_normal_request(request_: Request) -> None:
    assert housekeeping_of(request_) is None


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=40)), max_size=6))
def test_other_words_are_never_taken_for_housekeeping(messages: list[tuple[str, str]]) -> None:
    request = Request(tuple({"role": role, "content": text} for role, text in messages))
    assert housekeeping_of(request) is None


def test_every_pattern_has_a_source_and_words() -> None:
    assert len(patterns()) >= 10
    for pattern in patterns():
        assert pattern.source
        assert (pattern.starts is None) != (pattern.equals is None)
        assert pattern.place in ("system", "last_user")
        # A short text alone would be a user's as well.
        assert pattern.max_tokens == 1 or len(pattern.starts or "") > 35


@pytest.mark.slow
def test_titles_go_to_the_cheapest_model_and_change_nothing(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"))
    session = Agent(served)
    session.say(FIX, reply(cached=WORDS))
    provider.script(answer("Fix a traceback"))
    raw = agent(served).messages.with_raw_response.create(
        model="claude-auto",
        max_tokens=100,
        system="Generate a concise, sentence-case title (3-7 words) for this session.",
        messages=[{"role": "user", "content": FIX}],
    )
    assert raw.headers["x-semroute-strategy"] == "housekeeping"
    assert "x-semroute-session" not in raw.headers
    session.say(FIX, reply(cached=WORDS))
    assert (session.move, models_asked(served)) == ("stays", ["coder", "small", "coder"])


@pytest.mark.slow
def test_a_compaction_goes_where_it_costs_least_with_what_is_cached(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"))
    cached, fresh = Agent(served, "cached"), Agent(served, "fresh")
    cached.say(FIX, reply(cached=WORDS))
    fresh.say(FIX, reply(cached=0))
    for session in (cached, fresh):
        session.say(COMPACT, reply("summary", cached=0))
        assert session.headers["x-semroute-strategy"] == "housekeeping"
    # 18,000 tokens cost less from the cache of a model at 0.5 than anew at 1.
    assert models_asked(served) == ["coder", "coder", "coder", "small"]


@pytest.mark.slow
def test_the_cheapest_model_must_be_able_to_take_it(serve: Callable[..., Served], provider: FakeProvider) -> None:
    small: dict[str, Any] = {"small": {"context": 1000}, "coder": {"context": 1_000_000}, "large": {}}
    served = serve("anthropic", deployments=deployments(provider, "anthropic"), models=small)
    session = Agent(served)
    session.say(FIX, reply(cached=0))
    session.say(COMPACT, reply("summary", cached=0))
    assert (session.headers["x-semroute-strategy"], models_asked(served)) == ("housekeeping", ["coder", "coder"])
    assert PRICES["small"]["input"] < PRICES["coder"]["input"]

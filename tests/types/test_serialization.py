"""Results and errors as JSON: ``to_dict``, ``asdict``, pydantic, FastAPI, ``pickle`` and ``deepcopy``."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from semroute.config import Config
from semroute.errors import ConfigError, DispatchError, InputError, SemrouteError
from semroute.router import Router
from semroute.strategies.semantic import Ranking
from semroute.testing import Call, FakeProvider, answer, fail
from semroute.types import (
    Alternative,
    Attempt,
    CheckResult,
    Completion,
    Cost,
    Decision,
    Delta,
    ReasoningBlock,
    Request,
    StrategyResult,
    TierResult,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from semroute.types.serialization import json_ready

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
USAGE, COST = Usage(3, 4, reasoning_tokens=1), Cost(0.1)
CALL = ToolCall("c1", "weather", '{"city": "Oslo"}', "c2ln")
ATTEMPT = Attempt(
    "spot", "small", 12.0, 200, usage=USAGE, cost=COST, credential="A_KEY", score=MappingProxyType({"cost": 0.5})
)
DECISION = Decision(
    query="weather?",
    category="b",
    model="small",
    score=0.9,
    threshold=0.5,
    confidence=math.nan,
    is_fallback=False,
    categories=Ranking(("a", "b"), np.array([0.1, 0.9], np.float32), np.array([0.2, math.inf])),
    candidates=("small",),
    strategy="semantic",
    reason="it is near",
    elapsed_ms=1.0,
    steps_ms={"encode": 0.5},
    opinions=(StrategyResult("semantic", "decided", "it is near", ("small",), attempts=(ATTEMPT,)),),
    cascade=(("small",), ("large",)),
)
CHECK = CheckResult("confidence", False, "too low", math.nan, 0.5)
PART = Completion("a", "small", "spot", "m", "stop", USAGE, 1.0)
TIER = TierResult(0, "small", PART, (ATTEMPT,), (CHECK,), False, "rejected", 2.0)
COMPLETION = Completion(
    text="It rains.",
    model="small",
    deployment="spot",
    upstream_model="m",
    finish_reason="tool_calls",
    usage=USAGE,
    latency_ms=12.5,
    attempts=(ATTEMPT,),
    decision=DECISION,
    first_token_ms=3.0,
    tool_calls=(CALL,),
    refusal=None,
    logprobs=(TokenLogprob("It", -math.inf),),
    cost=COST,
    tiers=(TIER,),
    tier=0,
    outcome_id="o1",
    alternatives=(Alternative("or not", "stop", (CALL,)),),
    reasoning="hm",
    reasoning_blocks=(ReasoningBlock("hm", "c2ln"), ReasoningBlock("", redacted="x")),
)
DELTA = Delta("It", (TokenLogprob("It", -0.5),), (ToolCallDelta(0, "c1", "weather", "{"),), "hm")
RESULTS: tuple[Any, ...] = (
    COMPLETION, DELTA, COMPLETION.alternatives[0], CALL, TIER, CHECK, ATTEMPT, DECISION, USAGE, COST,
    DELTA.tool_calls[0], COMPLETION.reasoning_blocks[0],
)  # fmt: skip
EACH = pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)


@EACH
def test_every_result_is_json(result: Any) -> None:
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text) == result.to_dict()


@EACH
def test_every_result_survives_asdict_pickle_and_deepcopy(result: Any) -> None:
    assert json.dumps(dataclasses.asdict(result))
    assert set(dataclasses.asdict(result)) == {field.name for field in dataclasses.fields(result)}
    for again in (copy.deepcopy(result), *(pickle.loads(pickle.dumps(result, protocol)) for protocol in (2, 5))):  # noqa: S301 - what was pickled a line ago
        assert type(again) is type(result)
        assert repr(again) == repr(result)


def test_a_lazy_ranking_is_made_only_where_it_is_read() -> None:
    made = 0

    class Counting(Ranking):
        def __iter__(self) -> Iterator[Any]:
            nonlocal made
            made += 1
            return super().__iter__()

    ranking = Counting(("a",), np.array([0.1], np.float32), np.array([0.2]))
    decision = dataclasses.replace(DECISION, categories=ranking)
    assert (decision.model, made) == ("small", 0)
    assert [entry.category for entry in decision.categories] == ["a"]
    assert decision.categories[0] is decision.categories[0]
    assert made == 1


def test_the_keys_of_a_completion_are_those_of_the_command_line() -> None:
    found: Any = COMPLETION.to_dict()
    assert found["decision"] == DECISION.to_dict()
    assert found["attempts"] == [ATTEMPT.to_dict()]
    assert (found["cost_usd"], found["cost_is_estimated"]) == (pytest.approx(0.2), False)
    assert found["trials"][0]["called"] is True
    assert found["logprobs"] == [{"token": "It", "logprob": None}]  # JSON has no infinity
    assert found["tool_calls"] == [
        {"id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}', "signature": "c2ln", "type": "function"}
    ]


def test_the_message_of_a_completion_has_all_that_vendors_want_back() -> None:
    assert COMPLETION.message == {
        "role": "assistant",
        "content": "It rains.",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                "extra_content": {"google": {"thought_signature": "c2ln"}},
            }
        ],
        "reasoning_content": "hm",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "x"},
        ],
    }
    assert PART.message == {"role": "assistant", "content": "a"}
    assert dataclasses.replace(PART, text="").message["content"] == ""
    assert dataclasses.replace(PART, text="", tool_calls=(CALL,)).message["content"] is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.builds(Path, st.just("a")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.builds(MappingProxyType, st.dictionaries(st.text(max_size=2), inner, max_size=3))
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(VALUES)
def test_whatever_the_value_its_json_is_strict(value: Any) -> None:
    found = json_ready(value)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_value_that_json_cannot_say_is_refused() -> None:
    for value in (b"x", object(), DispatchError):
        with pytest.raises(TypeError, match="cannot be written as JSON"):
            json_ready(value)


# Errors, and what never stands in them.


def test_errors_are_json_with_all_that_a_client_needs() -> None:
    error = DispatchError("no answer", deployment="spot", status=429, wait_s=math.inf, usage=USAGE, code="rate_limit")
    error.attempts = (ATTEMPT,)
    assert error.to_dict() == {
        "error": "DispatchError",
        "message": "no answer",
        "deployment": "spot",
        "status": 429,
        "code": "rate_limit",
        "fault": "endpoint",
        "is_final": False,
        "is_charged": False,
        "wait_s": None,
        "usage": USAGE.to_dict(),
        "attempts": [ATTEMPT.to_dict()],
    }
    assert InputError("wrong").to_dict() == {"error": "InputError", "message": "wrong"}
    assert ConfigError("wrong", path="a.yaml", line=3, key="log").to_dict() == {
        "error": "ConfigError", "message": "a.yaml:3: log: wrong", "path": "a.yaml", "line": 3, "key": "log"
    }  # fmt: skip


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.setenv("SECRET_KEY_OF_A_TEST", KEY)
    with FakeProvider() as running:
        yield running


@pytest.fixture
def router(provider: FakeProvider, routing_index: Path) -> Router:
    place = {"name": "spot", "model": "small", "base_url": provider.base_url, "api_key_env": "SECRET_KEY_OF_A_TEST"}
    return Router.load(
        routing_index, config=Config.model_validate({"deployments": [place], "retries": {"same_place": 0}})
    )


QUESTION = Request(({"role": "user", "content": "how long do I boil an egg"},), tools=(Tool("timer"),))


def test_a_real_answer_and_a_real_error_are_json_without_the_key(provider: FakeProvider, router: Router) -> None:
    provider.script(answer("Eight.", calls=(Call("timer"),), reasoning="hm"), *[fail(401, f"wrong key {KEY}")] * 3)
    completion = router.complete(QUESTION, model="small")
    with pytest.raises(SemrouteError) as caught:
        router.complete(QUESTION, model="small")
    for value in (completion.to_dict(), caught.value.to_dict()):
        text = json.dumps(value, allow_nan=False)
        assert KEY not in text
        assert "SECRET_KEY_OF_A_TEST" in text
    assert json.dumps(dataclasses.asdict(completion))
    assert pickle.loads(pickle.dumps(completion)) == completion  # noqa: S301 - what was pickled in this line
    assert json.loads(TypeAdapter(Completion).dump_json(completion))["text"] == "Eight."


@pytest.mark.parametrize("result", [COMPLETION, DELTA, DECISION], ids=lambda result: type(result).__name__)
def test_pydantic_writes_results(result: Any) -> None:
    found = json.loads(TypeAdapter(type(result)).dump_json(result))
    assert set(found) == {field.name for field in dataclasses.fields(result)}


def test_results_come_back_from_a_fastapi_handler(provider: FakeProvider, router: Router) -> None:
    fastapi = pytest.importorskip("fastapi", reason='needs the extra "test"')
    import httpx

    app = fastapi.FastAPI()

    @app.get("/completion")
    async def completion() -> Completion:
        return await router.acomplete(QUESTION, model="small")

    @app.get("/untyped", response_model=None)
    async def untyped() -> Any:
        return await router.acomplete(QUESTION, model="small")

    @app.get("/decision")
    async def decision() -> Decision:
        return router.route("how long do I boil an egg")

    async def work() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            for path in ("/completion", "/untyped"):
                provider.script(answer("Eight.", reasoning="hm"))
                found = (await client.get(path)).json()
                assert (found["text"], found["reasoning"]) == ("Eight.", "hm")
            found = (await client.get("/decision")).json()
            assert found["categories"][0].keys() == {"category", "score", "threshold"}

    asyncio.run(work())

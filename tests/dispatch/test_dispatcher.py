from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import httpx
import pytest
from patience import PATIENCE_S

from semroute.config import Config
from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import (
    AllClosedError,
    AuthenticationError,
    BrokenStreamError,
    CapabilityError,
    DeadlineError,
    DispatchError,
    NoDeploymentError,
    ProviderTimeoutError,
    QueryError,
    RateLimitError,
    RequestError,
    UnavailableError,
)
from semroute.testing import Failure, FakeProvider, Reply, fail, hang, malformed, reset_after
from semroute.types import Attempt, BreakerState, Completion, Delta, Request, Tool

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
INVALID_KEY = Reply(failure=Failure(401, "Incorrect API key provided", "key"))
HELLO = Request(({"role": "user", "content": "hello there you"},), max_tokens=100)
T = TypeVar("T")


def deployment(name: str, provider: FakeProvider, model: str = "large", **more: Any) -> dict[str, Any]:
    return {"name": name, "model": model, "base_url": provider.base_url, **more}


def config(*deployments: dict[str, Any], **sections: Any) -> Config:
    quick = {"backoff_s": 0.001, "most_backoff_s": 0.001, "deadline_s": 5.0}
    sections["retries"] = {**quick, **sections.get("retries", {})}
    # A preference sharp enough to be relied on: the cheaper deployment comes first.
    sections.setdefault("selection", {"sharpness": 500.0, "exploration": 0.0})
    return Config.model_validate({"deployments": list(deployments), **sections})


def cheap(name: str, provider: FakeProvider, **more: Any) -> dict[str, Any]:
    return deployment(name, provider, price={"input": 1.0, "output": 1.0}, **more)


def dear(name: str, provider: FakeProvider, **more: Any) -> dict[str, Any]:
    return deployment(name, provider, price={"input": 100.0, "output": 100.0}, **more)


def run(where: Config, work: Callable[[Dispatcher], Awaitable[T]], env: dict[str, str] | None = None) -> T:
    async def inside() -> T:
        async with httpx.AsyncClient() as client:
            dispatcher = Dispatcher(where, client=client, env=env or {}, random=Random(0))
            try:
                return await work(dispatcher)
            finally:
                await dispatcher.close()

    return asyncio.run(asyncio.wait_for(inside(), PATIENCE_S))


def ask(
    where: Config,
    *candidates: str,
    request: Request = HELLO,
    constraints: Constraints | None = None,
    env: dict[str, str] | None = None,
) -> Completion:
    limits = constraints or Constraints()
    return run(where, lambda it: it.complete(request, candidates or ("large",), limits), env)


def refusal(where: Config, *candidates: str, **more: Any) -> DispatchError:
    with pytest.raises(DispatchError) as caught:
        ask(where, *candidates, **more)
    return caught.value


async def no_passes_left(dispatcher: Dispatcher) -> bool:
    from semroute.dispatch.status import endpoints_of

    statuses = await dispatcher.gates.statuses(endpoints_of(dispatcher.config))
    return all(status.in_flight == 0 for status in statuses)


def test_an_answer_comes_with_its_attempt_cost_and_the_parts_of_the_choice(first: FakeProvider) -> None:
    answer = ask(config(cheap("a", first)))
    (attempt,) = answer.attempts
    assert (answer.text, answer.model, answer.deployment) == ("hello there you", "large", "a")
    assert (attempt.deployment, attempt.status, attempt.error, attempt.probability) == ("a", 200, None, 1.0)
    assert set(attempt.score) == {"cost", "latency", "availability", "capability", "total"}
    assert answer.usage is not None
    assert answer.cost == attempt.cost == answer.total_cost
    assert answer.cost is not None
    assert answer.cost.usd == pytest.approx((answer.usage.input_tokens + answer.usage.output_tokens) / 1e6)
    assert not answer.cost.estimated


def test_a_failing_deployment_is_left_for_another_of_the_same_model(first: FakeProvider, second: FakeProvider) -> None:
    first.script(fail(500))
    answer = ask(config(cheap("a", first), dear("b", second)))
    assert answer.deployment == "b"
    assert [attempt.deployment for attempt in answer.attempts] == ["a", "b"]
    assert answer.attempts[0].error_kind == "UnavailableError"
    assert answer.attempts[0].cost is not None
    assert answer.attempts[0].cost.usd == 0.0


def test_the_next_model_answers_when_no_deployment_of_the_first_does(first: FakeProvider, second: FakeProvider) -> None:
    first.script(*[fail(500)] * 3)
    answer = ask(config(cheap("a", first), cheap("b", second, model="coder")), "large", "coder")
    assert answer.model == "coder"
    assert [(attempt.deployment, attempt.retry) for attempt in answer.attempts] == [
        ("a", False),
        ("a", True),
        ("a", True),
        ("b", False),
    ]


def test_a_lone_deployment_is_tried_again_at_most_twice(first: FakeProvider) -> None:
    first.script(*[fail(500)] * 9)
    error = refusal(config(cheap("a", first)))
    assert isinstance(error, UnavailableError)
    assert len(error.attempts) == len(first.requests) == 3


@pytest.mark.slow
def test_retries_at_the_same_place_stay_within_their_budget(first: FakeProvider) -> None:
    first.script(*[fail(500)] * 999)
    where = config(cheap("a", first), breaker={"in_a_row": 1000, "least_calls": 1000})

    async def many(dispatcher: Dispatcher) -> None:
        for _ in range(100):
            with pytest.raises(UnavailableError):
                await dispatcher.complete(HELLO, ("large",))

    run(where, many)
    assert 100 < len(first.requests) <= 100 + 0.2 * 100 + 5


def test_a_group_is_one_pool_of_models(first: FakeProvider, second: FakeProvider) -> None:
    first.script(fail(503))
    where = config(cheap("a", first, model="x"), dear("b", second, model="y"), groups={"frontier": ["x", "y"]})
    answer = ask(where, "frontier")
    assert (answer.model, answer.deployment) == ("y", "b")


def test_a_bad_request_is_not_carried_from_place_to_place(first: FakeProvider, second: FakeProvider) -> None:
    first.script(fail(400))
    error = refusal(config(cheap("a", first), dear("b", second)))
    assert isinstance(error, RequestError)
    assert second.requests == []
    assert [attempt.deployment for attempt in error.attempts] == ["a"]


def test_a_refused_key_disables_its_places_visibly_and_another_key_answers(first: FakeProvider) -> None:
    first.script(INVALID_KEY)
    where = config(cheap("a", first, api_key_env=["KEY_ONE", "KEY_TWO"]))

    async def twice(dispatcher: Dispatcher) -> list[Completion]:
        answers = [await dispatcher.complete(HELLO, ("large",)) for _ in range(2)]
        from semroute.dispatch.status import endpoints_of

        states = [s.breaker for s in await dispatcher.gates.statuses(endpoints_of(where))]
        assert sorted(states) == [BreakerState.CLOSED, BreakerState.DISABLED]
        return answers

    before, after = run(where, twice, {"KEY_ONE": "one", "KEY_TWO": "two"})
    assert [attempt.error_kind for attempt in before.attempts] == ["AuthenticationError", None]
    assert len(after.attempts) == 1
    assert after.attempts[0].credential == before.attempts[1].credential


def test_a_hint_closes_the_place_and_when_all_are_closed_the_error_says_until_when(first: FakeProvider) -> None:
    first.script(fail(429, retry_after=30))
    where = config(cheap("a", first))

    async def twice(dispatcher: Dispatcher) -> tuple[DispatchError, DispatchError]:
        errors = []
        for _ in range(2):
            with pytest.raises(DispatchError) as caught:
                await dispatcher.complete(HELLO, ("large",))
            errors.append(caught.value)
        return errors[0], errors[1]

    limited, closed = run(where, twice)
    assert isinstance(limited, AllClosedError)
    assert isinstance(limited.__cause__, RateLimitError)
    assert isinstance(closed, AllClosedError)
    assert closed.wait_s == pytest.approx(30, abs=1)
    assert len(first.requests) == 1


def test_a_limit_is_never_passed_and_the_next_place_takes_the_rest(first: FakeProvider, second: FakeProvider) -> None:
    where = config(cheap("a", first, limits={"rpm": 3}), dear("b", second))

    async def many(dispatcher: Dispatcher) -> list[Completion]:
        return await asyncio.gather(*(dispatcher.complete(HELLO, ("large",)) for _ in range(10)))

    answers = run(where, many)
    assert len(answers) == 10
    assert len(first.requests) == 3
    assert len(second.requests) == 7


@pytest.mark.slow
def test_an_open_breaker_keeps_calls_away(first: FakeProvider, second: FakeProvider) -> None:
    first.script(*[fail(500)] * 99)
    price_alone = {"sharpness": 500.0, "exploration": 0.0, "weights": {"availability": 0.0, "latency": 0.0}}
    where = config(cheap("a", first), dear("b", second), breaker={"in_a_row": 5}, selection=price_alone)

    async def many(dispatcher: Dispatcher) -> None:
        for _ in range(20):
            assert (await dispatcher.complete(HELLO, ("large",))).deployment == "b"

    run(where, many)
    assert len(first.requests) == 5
    assert len(second.requests) == 20


@pytest.mark.slow
def test_the_deadline_ends_a_hanging_call_and_counts_every_attempt(first: FakeProvider) -> None:
    first.script(hang(), hang())
    where = config(cheap("a", first), retries={"deadline_s": 600})
    error = refusal(where, constraints=Constraints(deadline_s=0.5))
    assert isinstance(error, DeadlineError)
    assert isinstance(error, TimeoutError)
    assert [attempt.error_kind for attempt in error.attempts] == ["ProviderTimeoutError"]


@pytest.mark.slow
def test_a_hanging_deployment_is_left_after_its_timeout(first: FakeProvider, second: FakeProvider) -> None:
    first.script(hang())
    answer = ask(config(cheap("a", first, timeout_s=0.1), dear("b", second)))
    assert [attempt.error_kind for attempt in answer.attempts] == ["ProviderTimeoutError", None]


def test_attempts_are_bounded_whatever_the_number_of_deployments() -> None:
    dead = [
        {"name": f"dead{n}", "model": "large", "base_url": "http://127.0.0.1:9/v1", "timeout_s": 1.0} for n in range(12)
    ]
    error = refusal(config(*dead, retries={"attempts": 4}))
    assert isinstance(error, UnavailableError)
    assert len(error.attempts) == 4


@pytest.mark.parametrize(
    ("constraints", "names"),
    [
        (Constraints(deployment="b"), ["b"]),
        (Constraints(deny=frozenset({"a"})), ["b"]),
        (Constraints(allow=frozenset({"b"})), ["b"]),
        (Constraints(regions=frozenset({"eu"})), ["b"]),
        (Constraints(model="coder"), ["c"]),
    ],
)
def test_the_request_may_say_where(first: FakeProvider, constraints: Constraints, names: list[str]) -> None:
    where = config(
        cheap("a", first, region="us"), dear("b", first, region="eu"), dear("c", first, model="coder", region="us")
    )
    assert [attempt.deployment for attempt in ask(where, constraints=constraints).attempts] == names


def test_a_price_ceiling_is_respected_before_any_call(first: FakeProvider) -> None:
    error = refusal(config(dear("a", first)), constraints=Constraints(max_usd=1e-9))
    assert isinstance(error, NoDeploymentError)
    assert "ceiling" in str(error)
    assert first.requests == []


@pytest.mark.slow
def test_a_monthly_budget_ends_the_calls_of_its_key(first: FakeProvider) -> None:
    # 100 tokens of answer at 100 USD a million are 0.01 USD, and the input a little more.
    where = config(dear("a", first, api_key_env="THE_KEY"), budgets={"THE_KEY": 0.02})

    async def until_spent(dispatcher: Dispatcher) -> AllClosedError:
        for _ in range(100):
            try:
                await dispatcher.complete(HELLO, ("large",))
            except AllClosedError as error:
                return error
        raise AssertionError("the budget was never reached")

    error = run(where, until_spent, {"THE_KEY": KEY})
    assert "budget" in str(error)
    spent = len(first.requests) * 6 * 100 / 1e6
    assert spent <= 0.02


def test_what_no_deployment_can_do_is_an_error_and_no_call(first: FakeProvider) -> None:
    where = config(cheap("a", first), models={"large": {"capabilities": ["vision"]}})
    error = refusal(where, request=Request(HELLO.messages, tools=(Tool("look_up"),)))
    assert isinstance(error, CapabilityError)
    assert "tools" in str(error)
    assert first.requests == []


def test_no_deployment_of_any_candidate_names_the_models_the_key_and_init() -> None:
    message = str(refusal(Config(), "coder", "large"))
    assert '"coder", "large"' in message
    assert "semroute init" in message


def test_no_candidates_at_all_is_an_error_of_the_tree() -> None:
    with pytest.raises(NoDeploymentError, match="no model to call"):
        run(Config(), lambda it: it.complete(HELLO, ()))


@pytest.mark.parametrize("env", [{}, {"THE_KEY": " "}])
def test_a_key_that_is_not_set_is_named_and_nothing_is_called(first: FakeProvider, env: dict[str, str]) -> None:
    error = refusal(config(cheap("a", first, api_key_env="THE_KEY")), env=env)
    assert isinstance(error, NoDeploymentError)
    assert "export THE_KEY" in str(error)
    assert first.requests == []


def test_a_stream_arrives_in_pieces_and_ends_with_the_completion(first: FakeProvider) -> None:
    events = run(config(cheap("a", first)), lambda it: _all(it.stream(HELLO, ("large",))))
    *pieces, last = events
    assert len(pieces) > 1
    assert all(isinstance(piece, Delta) for piece in pieces)
    assert isinstance(last, Completion)
    assert "".join(piece.text for piece in pieces) == last.text == "hello there you"
    assert last.attempts[0].first_token_ms is not None
    assert 0 < last.attempts[0].first_token_ms <= last.attempts[0].latency_ms


def test_a_stream_that_fails_before_its_first_byte_goes_on_elsewhere(first: FakeProvider, second: FakeProvider) -> None:
    first.script(fail(500))
    events = run(config(cheap("a", first), dear("b", second)), lambda it: _all(it.stream(HELLO, ("large",))))
    assert isinstance(events[-1], Completion)
    assert events[-1].deployment == "b"


def test_after_the_first_byte_no_other_place_is_tried(first: FakeProvider, second: FakeProvider) -> None:
    first.script(reset_after(1))
    pieces: list[Delta | Completion] = []

    async def read(dispatcher: Dispatcher) -> None:
        async for event in dispatcher.stream(HELLO, ("large",)):
            pieces.append(event)

    with pytest.raises(BrokenStreamError) as caught:
        run(config(cheap("a", first), dear("b", second)), read)
    assert pieces
    assert second.requests == []
    (attempt,) = caught.value.attempts
    assert attempt.cost is not None
    assert attempt.cost.estimated
    assert attempt.cost.usd > 0


def test_a_reader_that_leaves_in_mid_stream_is_no_failure_and_nothing_stays_reserved(first: FakeProvider) -> None:
    async def leave(dispatcher: Dispatcher) -> bool:
        for _ in range(8):
            events = dispatcher.stream(HELLO, ("large",))
            assert isinstance(await anext(events), Delta)
            await events.aclose()
        return await no_passes_left(dispatcher)

    assert run(config(cheap("a", first, limits={"parallel": 1})), leave)


@pytest.mark.slow
def test_a_cancelled_call_gives_its_place_back(first: FakeProvider) -> None:
    first.script(hang())

    async def cancel(dispatcher: Dispatcher) -> bool:
        call = asyncio.create_task(dispatcher.complete(HELLO, ("large",)))
        while not first.requests:
            await asyncio.sleep(0.001)
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        return await no_passes_left(dispatcher)

    assert run(config(cheap("a", first, limits={"parallel": 1})), cancel)


def usually_quick(dispatcher: Dispatcher) -> None:
    """Give the dispatcher latencies of both deployments, so that a silence of 50 ms is hedged.

    Measured ones would come from calls that a busy machine hedges too, whose abandoned requests may reach the provider
    later and take the replies scripted for the test.
    """
    for name in ("a", "b"):
        for _ in range(6):
            dispatcher.latencies.observe(
                name, streaming=False, prompt_tokens=10, first_token_s=None, per_token_s=None, total_s=0.05
            )


def test_a_hedge_answers_when_the_first_place_is_slow_and_both_are_charged(
    first: FakeProvider, second: FakeProvider
) -> None:
    hedging = {"enabled": True, "most": 1.0}
    where = config(cheap("a", first), dear("b", second), hedging=hedging, retries={"deadline_s": 600})

    async def hedged(dispatcher: Dispatcher) -> Completion:
        usually_quick(dispatcher)
        first.script(hang())
        return await dispatcher.complete(HELLO, ("large",))

    answer = run(where, hedged)
    assert answer.deployment == "b"
    loser, winner = sorted(answer.attempts, key=lambda attempt: attempt.deployment)
    assert (loser.deployment, loser.hedge, winner.deployment, winner.hedge) == ("a", False, "b", True)
    assert loser.cost is not None
    assert loser.cost.estimated
    assert loser.cost.usd > 0
    assert winner.cost is not None
    assert answer.total_cost is not None
    assert answer.total_cost.usd == pytest.approx(loser.cost.usd + winner.cost.usd)


@pytest.mark.slow
def test_a_hedged_call_that_is_left_tells_both_attempts(first: FakeProvider, second: FakeProvider) -> None:
    hedging = {"enabled": True, "most": 1.0}
    where = config(cheap("a", first), dear("b", second), hedging=hedging, retries={"deadline_s": 600})

    async def left(dispatcher: Dispatcher) -> list[Attempt]:
        usually_quick(dispatcher)
        before, told = len(second.requests), list[Attempt]()
        first.script(hang())
        second.script(hang())
        call = asyncio.create_task(dispatcher.complete(HELLO, ("large",), attempts=told))
        while len(second.requests) == before:
            await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return told

    attempts = run(where, left)
    assert sorted((one.deployment, one.hedge, one.error_kind) for one in attempts) == [
        ("a", False, "Abandoned"),
        ("b", True, "Abandoned"),
    ]
    assert all(one.cost is not None and one.cost.estimated and one.cost.usd > 0 for one in attempts)


@pytest.mark.slow
def test_a_hedge_that_the_budget_does_not_allow_is_not_started(first: FakeProvider, second: FakeProvider) -> None:
    where = config(cheap("a", first), cheap("b", second), hedging={"enabled": True, "most": 1.0})

    async def hedged(dispatcher: Dispatcher) -> Completion:
        usually_quick(dispatcher)
        estimate = await dispatcher.estimate(HELLO, ("large",))
        assert estimate.usd is not None
        first.script(*[hang(0.3)] * 2)
        second.script(*[hang(0.3)] * 2)
        return await dispatcher.complete(HELLO, ("large",), Constraints(total_usd=1.5 * estimate.usd))

    assert len(run(where, hedged).attempts) == 1


@pytest.mark.slow
def test_hedges_are_capped_as_a_share_of_the_requests(first: FakeProvider, second: FakeProvider) -> None:
    where = config(cheap("a", first), dear("b", second), hedging={"enabled": True, "most": 0.02, "quantile": 0.01})

    async def many(dispatcher: Dispatcher) -> list[Completion]:
        usual = [await dispatcher.complete(HELLO, ("large",)) for _ in range(50)]
        # Far slower than what was measured, so that each of them would be hedged if it were not for the cap.
        first.script(*[hang(0.02)] * 100)
        return usual + [await dispatcher.complete(HELLO, ("large",)) for _ in range(100)]

    hedges = [attempt for answer in run(where, many) for attempt in answer.attempts if attempt.hedge]
    assert 0 < len(hedges) <= 3


@pytest.mark.parametrize("fault", [fail(401, f"no such key {KEY}"), fail(500, KEY), malformed(KEY)])
def test_the_key_reaches_no_error_attempt_repr_or_log(
    first: FakeProvider, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first.script(*[fault] * 5)
    error = refusal(config(cheap("a", first, api_key_env="THE_KEY")), env={"THE_KEY": KEY})
    shown = f"{error} {error!r} {error.attempts} {error.__cause__!r} {error.__context__!r}"
    assert isinstance(error, (AuthenticationError, UnavailableError, DispatchError))
    assert KEY not in shown
    assert KEY not in caplog.text


@pytest.mark.slow
def test_a_timeout_under_a_short_deadline_does_not_open_the_breaker(first: FakeProvider) -> None:
    first.always(hang())
    where = config(cheap("a", first), breaker={"in_a_row": 1})

    async def hurry(dispatcher: Dispatcher) -> None:
        while len(first.requests) < 3:  # on a busy machine the deadline may end before a call does begin
            with pytest.raises((DeadlineError, ProviderTimeoutError)):
                await dispatcher.complete(HELLO, ("large",), Constraints(deadline_s=0.05))

    run(where, hurry)


def test_each_place_is_weighed_against_its_budget_by_its_own_price(first: FakeProvider, second: FakeProvider) -> None:
    where = config(
        cheap("a", first, api_key_env="ONE"), dear("b", second, api_key_env="TWO"), budgets={"ONE": 0.001, "TWO": 0.001}
    )
    answer = ask(where, env={"ONE": "1", "TWO": "2"})
    assert answer.deployment == "a"  # 0.0001 USD here, 0.01 there


def test_retries_leave_an_attempt_for_the_next_model(first: FakeProvider, second: FakeProvider) -> None:
    first.script(*[fail(500)] * 99)
    where = config(cheap("a", first), cheap("b", first), cheap("c", second, model="coder"))
    assert ask(where, "large", "coder").deployment == "c"


@pytest.mark.slow
def test_a_place_that_hangs_is_not_waited_for_again_while_another_may_answer(
    first: FakeProvider, second: FakeProvider
) -> None:
    first.script(hang(), hang())
    where = config(cheap("a", first, timeout_s=0.3), cheap("b", second, model="coder"), retries={"deadline_s": 5.0})
    assert [told.deployment for told in ask(where, "large", "coder").attempts] == ["a", "b"]


def test_several_keys_are_no_more_retries_of_a_deployment(first: FakeProvider) -> None:
    first.script(*[fail(500)] * 99)
    keys = {"ONE": "1", "TWO": "2", "THREE": "3"}
    error = refusal(config(cheap("a", first, api_key_env=list(keys))), env=keys)
    assert len(error.attempts) == len(first.requests) == 3


def test_a_call_that_never_reached_the_provider_costs_nothing(second: FakeProvider) -> None:
    price = {"input": 1.0, "output": 1.0}
    dead = {"name": "dead", "model": "large", "base_url": "http://127.0.0.1:9/v1", "price": price}
    answer = ask(config(dead, dear("b", second)))
    before, after = answer.attempts
    assert before.cost is not None
    assert before.cost.usd == 0.0
    assert answer.total_cost == after.cost


def test_a_stream_that_only_calls_tools_still_has_a_first_token(first: FakeProvider) -> None:
    request = Request(HELLO.messages, tools=(Tool("look_up"),), tool_choice="required")
    *pieces, last = run(config(cheap("a", first)), lambda it: _all(it.stream(request, ("large",))))
    assert all(isinstance(piece, Delta) and piece.tool_calls and piece.text == "" for piece in pieces)
    assert isinstance(last, Completion)
    assert last.tool_calls[0].name == "look_up"
    assert last.attempts[0].first_token_ms is not None


def test_a_deadline_of_nothing_is_a_deadline(first: FakeProvider) -> None:
    error = refusal(config(cheap("a", first)), constraints=Constraints(deadline_s=0.0))
    assert isinstance(error, DeadlineError)
    assert first.requests == []


@pytest.mark.parametrize("refusal", [INVALID_KEY, fail(401), fail(402)])
def test_a_key_that_was_replaced_is_used_again(first: FakeProvider, refusal: Reply) -> None:
    first.script(refusal)
    env = {"THE_KEY": "old"}

    async def replaced(dispatcher: Dispatcher) -> Completion:
        for _ in range(2):
            with pytest.raises(DispatchError):
                await dispatcher.complete(HELLO, ("large",))
        assert len(first.requests) == 1
        env["THE_KEY"] = "new"
        return await dispatcher.complete(HELLO, ("large",))

    assert run(config(cheap("a", first, api_key_env="THE_KEY")), replaced, env).text == "hello there you"


async def _all(events: Any) -> list[Delta | Completion]:
    return [event async for event in events]


@pytest.mark.parametrize("messages", [("hello",), (None,), ({"role": "user", "content": 3},)])
def test_what_is_no_message_is_a_query_error_and_no_call(first: FakeProvider, messages: Any) -> None:
    with pytest.raises(QueryError, match=r"messages\[0\]"):
        run(config(cheap("a", first)), lambda dispatcher: dispatcher.complete(Request(messages), ("large",)))
    assert first.requests == []


@pytest.mark.parametrize("streaming", [False, True])
def test_a_call_that_is_left_before_it_was_sent_costs_nothing(
    first: FakeProvider, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    looking = asyncio.Event()

    async def hangs(host: str, port: int) -> None:
        looking.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("semroute.providers.connection.look_up", hangs)
    attempts: list[Attempt] = []

    async def work(dispatcher: Dispatcher) -> None:
        async def ask() -> None:
            if not streaming:
                await dispatcher.complete(HELLO, ("large",), attempts=attempts)
                return
            async for _ in dispatcher.stream(HELLO, ("large",), attempts=attempts):
                pass

        asked = asyncio.create_task(ask())
        await looking.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    run(config(cheap("a", first)), work)
    assert [(one.error_kind, one.cost.usd if one.cost else None) for one in attempts] == [("Abandoned", 0.0)]
    assert first.requests == []

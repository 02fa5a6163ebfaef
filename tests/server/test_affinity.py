"""Staying and switching: expected costs, identities, and how long a conversation is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.conftest import config_over
from server.test_sessions import FIX, PROMPT, SOUP, WORDS, deployments, reply

from semroute.catalog import charge
from semroute.config import Price
from semroute.dispatch.constraints import ANYTHING
from semroute.router import Router
from semroute.router.load import LoadedIndex
from semroute.router.requested import escalated
from semroute.server.affinity import SessionTurn, SwitchComparison, turn_cost, turns_of_an_ask
from semroute.server.sessions import Sessions, identity, trailing_results
from semroute.testing import Call, FakeProvider, answer
from semroute.types import TRIAL, Assignment, Completion, Decision, Request, StrategyResult, Usage

DOLLARS = st.floats(0.01, 100)
TOKENS = st.integers(0, 1_000_000)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    """Return a price whose cached input costs at most its input, and writing to the cache at least that."""
    full = draw(DOLLARS)
    cached = draw(st.none() | st.floats(0, 1).map(lambda share: share * full))
    write = draw(st.none() | st.floats(1, 2).map(lambda factor: factor * full))
    return Price(input=full, output=draw(DOLLARS), cached_input=cached, cache_write=write)


@pytest.mark.slow
@given(prices(), TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_turn_costs_less_the_more_is_cached_and_never_more_than_the_provider_charges(
    price: Price, size: int, output: int, cached: int, more: int, written: int
) -> None:
    cost = turn_cost(price, size, output, cached, written)
    assert turn_cost(price, size, output, cached + more, written) <= cost * (1 + 1e-9)
    read = min(cached, size)
    wrote = min(max(written - read, 0), size - read)
    assert cost == charge(price, Usage(size, output, cached_tokens=read, cache_write_tokens=wrote)) >= 0


@pytest.mark.slow
@given(prices(), TOKENS, TOKENS, TOKENS)
def test_at_the_same_price_a_conversation_always_stays(price: Price, size: int, output: int, cached: int) -> None:
    stay = turn_cost(price, size, output, cached, cached)
    switch = turn_cost(price, size, output, 0, cached)
    assert SwitchComparison(stay, switch).stays


@pytest.mark.slow
@given(prices(), prices(), TOKENS, TOKENS, TOKENS)
def test_it_switches_exactly_where_that_costs_less_with_the_lost_cache(
    here: Price, there: Price, size: int, output: int, cached: int
) -> None:
    stay, switch = turn_cost(here, size, output, cached, cached), turn_cost(there, size, output, 0, cached)
    comparison = SwitchComparison(stay, switch)
    assert comparison.stays == (switch >= stay)
    assert str(comparison).endswith(": stays" if comparison.stays else ": switches")


@given(DOLLARS, DOLLARS, st.floats(0, 100), st.floats(0, 100))
def test_the_more_staying_has_cost_the_less_it_stays(stay: float, switch: float, forgone: float, more: float) -> None:
    before, after = SwitchComparison(stay, switch, forgone), SwitchComparison(stay, switch, forgone + more)
    assert before.stays or not after.stays
    assert before.stays == (switch >= stay + forgone)


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 60))
def test_staying_never_costs_more_than_twice_what_foresight_would_have(
    stay: float, warm: float, filling: float, turns: int
) -> None:
    """With ``turns`` turns at the same costs, foresight stays for all of them or switches at once."""
    spent = forgone = 0.0
    has_switched = False
    for _ in range(turns):
        if not has_switched and not SwitchComparison(stay, warm + filling, forgone).stays:
            has_switched, spent = True, spent + filling
        spent += warm if has_switched else stay
        forgone += 0.0 if has_switched else max(0.0, stay - warm)
    foresight = min(stay * turns, filling + warm * turns)
    assert spent <= 2 * foresight + 1e-9


@pytest.mark.parametrize(("stay", "switch"), [(None, 1.0), (1.0, None), (None, None)])
def test_where_a_price_is_not_known_it_stays(stay: float | None, switch: float | None) -> None:
    comparison = SwitchComparison(stay, switch)
    assert comparison.stays
    assert "of unknown price" in str(comparison)


def test_the_costs_are_shown_as_dollars() -> None:
    assert str(SwitchComparison(0.0021, 0.0187)) == "stay 0.0021, switch 0.0187: stays"
    assert str(SwitchComparison(0.0021, 0.0187, 0.02)) == "stay 0.0021 and 0.0200 forgone, switch 0.0187: switches"
    assert str(SwitchComparison(0.0187, 0.0000211)) == "stay 0.0187, switch 0.0000211: switches"


# One conversation, turn by turn, over the real router and the double.


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Talk:
    """Turns of a conversation through a router; each query follows the one before."""

    def __init__(self, router: Router, provider: FakeProvider, sessions: Sessions) -> None:
        self._router, self._provider, self._sessions = router, provider, sessions
        self.messages: list[Mapping[str, object]] = [{"role": "system", "content": PROMPT}]
        self.turn: SessionTurn

    def ask(self, text: str, told: Any) -> Completion:
        self.messages.append({"role": "user", "content": text})
        return self._answered(told)

    def give(self, result: str, told: Any) -> Completion:
        """Give the result of the call that the last answer made."""
        (call,) = self.messages[-1]["tool_calls"]  # type: ignore[misc]
        self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        return self._answered(told)

    def _answered(self, told: Any) -> Completion:
        request = Request(tuple(self.messages), max_tokens=1000)
        self.turn = SessionTurn(self._router.config, self._sessions, None, identity({}, request), request, ANYTHING)
        self._provider.script(told)

        async def call() -> Completion:
            return await self._router.acomplete(request, constraints=self.turn.limits, revise=self.turn.revise)

        completion = asyncio.run(call())
        self.turn.note(completion)
        calls = [call.to_openai() for call in completion.tool_calls]
        said: dict[str, object] = {"role": "assistant", "content": completion.text or None}
        self.messages.append(said | ({"tool_calls": calls} if calls else {}))
        return completion


@pytest.fixture
def router(live: LoadedIndex, provider: FakeProvider) -> Iterator[Router]:
    config = config_over(provider, "openai", deployments=deployments(provider))
    with Router(live.with_config(config), config) as running:
        yield running


def decision_of(completion: Completion) -> Decision:
    assert completion.decision is not None
    return completion.decision


def test_the_decision_shows_both_costs(router: Router, provider: FakeProvider) -> None:
    talk = Talk(router, provider, Sessions())
    assert decision_of(talk.ask(FIX, reply(cached=WORDS))).strategy == "semantic"
    decision = decision_of(talk.ask(SOUP, reply(cached=WORDS)))
    assert (decision.strategy, decision.category, decision.candidates) == ("session", "cooking", ("coder", "small"))
    # 18,050 tokens, of which 18,000 cached: 50 x 5 + 18,000 x 0.5 + 30 x 10; and 18,000 x 1 at the other model.
    assert decision.reason.startswith("stay 0.00")
    assert "switch 0.01" in decision.reason
    assert decision.reason.endswith(": stays with coder")
    assert decision.opinions[-1].strategy == "session"


@pytest.mark.slow
def test_a_conversation_that_would_be_cheaper_elsewhere_turn_after_turn_moves(
    router: Router, provider: FakeProvider
) -> None:
    talk = Talk(router, provider, Sessions())
    talk.ask(FIX, reply(cached=WORDS))
    models, reasons = [], []
    for _ in range(5):
        completion = talk.ask(SOUP, reply(cached=WORDS))
        models.append(completion.model)
        reasons.append(decision_of(completion).reason)
    assert models == ["coder", "coder", "small", "small", "small"]
    assert ["forgone" in reason for reason in reasons] == [False, True, True, False, False]


@pytest.mark.slow
def test_where_asks_take_many_tool_calls_a_switch_pays_at_once(router: Router, provider: FakeProvider) -> None:
    talk = Talk(router, provider, Sessions())
    talk.ask(FIX, reply(cached=WORDS, calls=(Call("read", {"page": 1}),)))
    talk.give("one", reply(cached=WORDS, calls=(Call("read", {"page": 2}),)))
    talk.give("two", reply(cached=WORDS))
    completion = talk.ask(SOUP, reply(cached=WORDS))
    assert (completion.model, talk.turn.move) == ("small", "switches")


@pytest.mark.slow
def test_what_staying_costs_more_is_counted_in_a_loop_of_tool_calls_too(router: Router, provider: FakeProvider) -> None:
    sessions = Sessions()
    talk = Talk(router, provider, sessions)
    talk.ask(FIX, reply(cached=WORDS))
    forgone = []
    talk.ask(SOUP, reply(cached=WORDS, calls=(Call("read", {"page": 1}),)))
    for page in (2, 3):
        assert talk.turn.move == "stays"
        (session,) = sessions._living(None).values()
        forgone.append(session.forgone["small"])
        talk.give("text", reply(cached=WORDS, calls=(Call("read", {"page": page}),) if page == 2 else ()))
    assert forgone[1] == pytest.approx(2 * forgone[0], rel=0.05)
    # Three turns at coder have cost more than the cache that a switch would fill.
    assert (talk.ask(SOUP, reply(cached=WORDS)).model, talk.turn.move) == ("small", "switches")


@pytest.mark.parametrize(
    ("roles", "turns"),
    [
        ("user", 1), ("system user", 1), ("user assistant user", 1), ("user assistant tool assistant user", 2),
        ("user assistant tool assistant tool assistant user assistant user", 2), ("user user user", 1), ("", 1),
    ],
)  # fmt: skip
def test_the_turns_of_an_ask_are_the_mean_of_those_before(roles: str, turns: float) -> None:
    request = Request(tuple({"role": role, "content": "text"} for role in roles.split()))
    assert turns_of_an_ask(request) == turns


@pytest.mark.slow
def test_after_the_providers_cache_has_ended_the_choice_is_free(router: Router, provider: FakeProvider) -> None:
    clock = Clock()
    talk = Talk(router, provider, Sessions(ttl_s=300, clock=clock))
    talk.ask(FIX, reply(cached=WORDS))
    clock.now += 299
    assert talk.ask(SOUP, reply(cached=WORDS)).model == "coder"
    clock.now += 301
    assert talk.ask(SOUP, reply(cached=0)).model == "small"
    assert talk.turn.move == "new"


def test_a_session_remembers_what_each_deployment_has_cached(router: Router, provider: FakeProvider) -> None:
    talk = Talk(router, provider, Sessions())
    talk.ask(FIX, reply(cached=WORDS))
    session = talk.turn._sessions.find(None, identity({}, Request(tuple(talk.messages))))
    assert session is not None
    assert session.caches["coder-1"].tokens == WORDS


def test_no_propensity_is_claimed_for_a_model_that_the_session_chose(router: Router, provider: FakeProvider) -> None:
    talk = Talk(router, provider, Sessions())
    decided = decision_of(talk.ask(FIX, reply(cached=WORDS)))
    drawn = StrategyResult(TRIAL, "passed", "watched", ("small",), draw=Assignment("p", 0.5, 0.5))
    request = Request((*talk.messages, {"role": "user", "content": SOUP}))
    turn = SessionTurn(router.config, talk.turn._sessions, None, identity({}, request), request, ANYTHING)
    revised = turn.revise(replace(decided, candidates=("small",), model="small", opinions=(drawn,)))
    assert revised.candidates[0] == "coder"
    assert revised.opinions[0].draw == Assignment("p", 0.5, None)


def test_a_rule_bounds_what_is_stayed_with(router: Router, provider: FakeProvider) -> None:
    talk = Talk(router, provider, Sessions())
    decided = decision_of(talk.ask(FIX, reply(cached=WORDS)))
    rule = StrategyResult("rules", "narrowed", "a free plan", ("small",))
    request = Request((*talk.messages, {"role": "user", "content": SOUP}))
    turn = SessionTurn(router.config, talk.turn._sessions, None, identity({}, request), request, ANYTHING)
    bounded = replace(decided, candidates=("small",), model="small", opinions=(rule,))
    assert turn.revise(bounded) == bounded
    assert turn.move == "switches"


@pytest.mark.parametrize(("kind", "asked"), [("narrowed", "small"), ("decided", "coder")])
def test_a_tool_result_goes_back_unless_a_rule_excludes_its_owner(
    router: Router, provider: FakeProvider, kind: Any, asked: str
) -> None:
    talk = Talk(router, provider, Sessions())
    completion = talk.ask(FIX, reply(cached=0, calls=(Call("read", {}),)))
    (call,) = completion.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "text"}
    called = {"role": "assistant", "content": None, "tool_calls": [call.to_openai()]}
    request = Request((*talk.messages[:2], called, result))
    turn = SessionTurn(router.config, talk.turn._sessions, None, identity({}, request), request, ANYTHING)
    rule = StrategyResult("rules", kind, "a rule", ("small",))
    bounded = replace(decision_of(completion), candidates=("small",), model="small", opinions=(rule,))
    assert turn.revise(bounded).model == asked


@pytest.mark.slow
def test_a_conversation_that_repeats_itself_leaves_its_model_for_the_one_above(
    router: Router, provider: FakeProvider
) -> None:
    def stalled(talk: Talk, model: str) -> tuple[str, str | None]:
        """Return where the conversation goes that has repeated itself at a model, and how it moves."""
        completion = talk.ask(FIX, reply(cached=0, calls=(Call("read", {}),)))
        decided = replace(decision_of(completion), candidates=("small", "coder", "large"), model="small", cascade=())
        session = talk.turn._sessions.find(None, identity({}, Request(tuple(talk.messages))))
        assert session is not None
        session.model = model
        turn = SessionTurn(
            router.config,
            talk.turn._sessions,
            None,
            identity({}, Request(tuple(talk.messages))),
            Request(tuple(talk.messages)),
            ANYTHING,
        )
        return turn.revise(escalated(decided, "small", router.config, "stalled")).model, turn.move

    found = [stalled(Talk(router, provider, Sessions()), model) for model in ("small", "coder", "large")]
    assert found == [("coder", "switches"), ("large", "switches"), ("large", "stays")]


# Identity and memory.

HELLO = Request(({"role": "user", "content": "hello"},))


def later(request: Request) -> Request:
    added = ({"role": "assistant", "content": "yes?"}, {"role": "user", "content": "go on"})
    return replace(request, messages=(*request.messages, *added))


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({}, {}),
        ({"x-claude-code-session-id": "a"}, {}),
        ({"session-id": "a"}, {}),
        ({"x-session-affinity": "a"}, {}),
        ({}, {"extra": {"prompt_cache_key": "a"}}),
        ({}, {"user": "a"}),
    ],
)
def test_a_conversation_is_known_by_its_id_and_its_beginning(headers: dict[str, str], fields: dict[str, Any]) -> None:
    request = replace(HELLO, **fields)
    name = identity(headers, request)
    assert identity(headers, later(request)) == name
    other = replace(request, messages=({"role": "user", "content": "another"},))
    assert identity(headers, other) != name
    if headers or fields:
        changed = dict.fromkeys(headers, "b")
        other_fields = {"extra": {"prompt_cache_key": "b"}} if "extra" in fields else dict.fromkeys(fields, "b")
        assert identity(changed, replace(HELLO, **other_fields)) != name
        with_system = replace(request, messages=({"role": "system", "content": "Today is Monday."}, *request.messages))
        assert identity(headers, with_system) == name


def test_a_checksum_in_the_system_prompt_does_not_change_the_conversation() -> None:
    def asked(checksum: str) -> Request:
        parts = [
            {"type": "text", "text": f"x-anthropic-billing-header: cch={checksum};"},
            {"type": "text", "text": "S"},
        ]
        return Request(({"role": "system", "content": parts}, {"role": "user", "content": "hello"}))

    assert identity({}, asked("1")) == identity({}, asked("2")) != identity({}, HELLO)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.floats(0, 200)), max_size=60))
def test_memory_is_bounded_and_no_caller_sees_anothers_sessions(steps: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    sessions = Sessions(ttl_s=300, most=5, clock=clock)
    used: dict[tuple[str, int], float] = {}
    for caller, number, pause in steps:
        clock.now += pause
        request = Request(({"role": "user", "content": f"hello {number}"},))
        found = sessions.find(caller, identity({}, request))
        if found is not None:
            assert clock.now - used[caller, number] <= 300
        assert sessions.start(caller, identity({}, request)) is sessions.find(caller, identity({}, request))
        used[caller, number] = clock.now
        assert len(sessions) <= 3 * 5
    for caller, number in used:
        others = [other for other in "abc" if other != caller and (other, number) not in used]
        request = Request(({"role": "user", "content": f"hello {number}"},))
        assert all(sessions.find(other, identity({}, request)) is None for other in others)


def test_what_is_too_old_leaves_memory_for_every_caller() -> None:
    clock = Clock()
    sessions = Sessions(ttl_s=300, clock=clock)
    for caller in ("a", "b"):
        sessions.start(caller, identity({}, HELLO))
    clock.now += 301
    assert sessions.find("c", identity({}, HELLO)) is None
    assert len(sessions) == 0


def test_results_after_the_last_answer_are_found_beside_other_messages() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    old = {"role": "tool", "tool_call_id": "c0", "content": "old"}
    answered = {"role": "assistant", "content": None, "tool_calls": [call]}
    new = {"role": "tool", "tool_call_id": "c1", "content": "new"}
    said = {"role": "user", "content": "and hurry"}
    assert trailing_results(Request((old, answered, new, said))) == {"c1"}
    assert trailing_results(Request((old, answered, said))) == set()


@pytest.mark.parametrize("messages", [("text",), (None,), ({"role": "user", "content": 5},), ({},)])
def test_a_conversation_that_cannot_be_used_has_an_identity_all_the_same(messages: tuple[Any, ...]) -> None:
    assert len(identity({}, Request(messages))) == 16
    assert trailing_results(Request(messages)) == set()


@pytest.mark.slow
def test_an_answer_without_usage_is_no_evidence_of_a_cache(router: Router, provider: FakeProvider) -> None:
    talk = Talk(router, provider, Sessions())
    talk.ask(FIX, answer("done", usage=False))
    assert talk.ask(SOUP, reply(cached=0)).model == "small"
    assert talk.turn.move == "switches"

"""Blind comparisons of a trial's answers: what is compared, what is paid, and that no request notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.evaluate.experiment_report import ComparisonCard
from semroute.outcomes.log import OutcomeLog
from semroute.router import Router
from semroute.router.experiment import trial_fingerprint, tried_config
from semroute.router.shadow import AT_ONCE
from semroute.testing import FakeProvider, RecordedRequest, Reply, answer, fail, hang
from semroute.types import LoggedComparison

QUERY = "how long should I boil an egg"
SERVING, TRYING = "Eight minutes in boiling water.", "Twelve minutes, then ice."
PRICE = {"input": 1.0, "output": 2.0}
Judging = Callable[[str, str], str | Reply]


def prefers(text: str) -> Judging:
    """Return a judge that prefers an answer, whatever its place."""
    return lambda first, second: "A" if first == text else "B"


class Double:
    """The provider of all three models; its judge is a function of the answers A and B."""

    def __init__(self, provider: FakeProvider) -> None:
        self.provider = provider
        self.judging: Judging = prefers(TRYING)
        self.trying: Reply | None = None
        provider.always(self._reply)

    @property
    def questions(self) -> list[str]:
        """What the judge was asked."""
        return [one.body["messages"][1]["content"] for one in self.provider.requests if one.body["model"] == "judge"]

    def asked(self, model: str) -> int:
        """Return the number of requests to a model."""
        return sum(one.body["model"] == model for one in self.provider.requests)

    def _reply(self, request: RecordedRequest) -> Reply | None:
        usage = {"input_tokens": 100, "output_tokens": 10}
        if request.body["model"] == "judge":
            found = self.judging(*answers_in(request.body["messages"][1]["content"]))
            return answer(found, **usage) if isinstance(found, str) else found
        if request.body["model"] == "tiny":
            return self.trying or answer(TRYING, **usage)
        return answer(SERVING, **usage)


def answers_in(question: str) -> tuple[str, str]:
    """Return the answers A and B of a question to the judge."""
    fence = next(line for line in question.splitlines() if line.startswith("<<"))
    parts = [part.strip() for part in question.split(fence)]
    return parts[3], parts[5]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeProvider() as provider:
        yield Double(provider)


@pytest.fixture
def load(routing_index: Path, tmp_path: Path, double: Double) -> Callable[..., Router]:
    """Return a function that opens a router with a trial of the model tiny."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("strategies: [rules]\nfallback: {models: [tiny]}\n")

    def opened(price: Any = PRICE, **trial: Any) -> Router:
        url = double.provider.base_url
        section = {"policy": str(policy), "state": str(tmp_path / "trial.json"), "judge": "judge", "max_usd": 1.0}
        names = ("tiny", "large", "small", "judge")
        config = Config.model_validate(
            {
                "deployments": [{"name": n, "model": n, "base_url": url, "price": price} for n in names],
                "log": {"enabled": True, "url": f"sqlite:///{tmp_path}/log.db"},
                "retries": {"attempts": 1},
                "trial": {**section, **trial},
            }
        )
        return Router.load(routing_index, config=config)

    return opened


async def settled(router: Router) -> None:
    """Wait until no comparison is under way."""
    while tasks := set(router._comparer._tasks if router._comparer is not None else ()):
        await asyncio.wait(tasks)


def compared(router: Router) -> list[LoggedComparison]:
    """Return the comparisons in the log."""
    tried, log = tried_config(router.config), router.log
    assert tried is not None
    assert isinstance(log, OutcomeLog)
    return log.comparisons(trial_fingerprint(router.config, tried))


async def ask(router: Router, *queries: str, **more: Any) -> list[LoggedComparison]:
    """Answer queries one after another, each with its comparison, and return those."""
    async with router:
        for query in queries or (QUERY,):
            await router.acomplete(query, **more)
            await settled(router)
        return compared(router)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("judging", "result", "questions"),
    [
        pytest.param(prefers(TRYING), "won", 2, id="the trial's is better"),
        pytest.param(prefers(SERVING), "lost", 2, id="the serving one is better"),
        pytest.param(lambda first, second: "tie", "tied", 1, id="neither"),
        pytest.param(lambda first, second: "A", "tied", 2, id="always the first"),
        pytest.param(lambda first, second: "B", "tied", 2, id="always the second"),
        pytest.param(lambda first, second: "Both are fine!", None, 1, id="no preference"),
    ],
)
def test_the_judge_is_asked_blind_and_in_both_orders(
    load: Callable[..., Router], double: Double, judging: Judging, result: str | None, questions: int
) -> None:
    double.judging = judging
    (one,) = asyncio.run(ask(load()))
    assert (one.result, one.serving, one.trying) == (result, "small", "tiny")
    assert one.error_kind == (None if result else "UnreadablePreference")
    calls = 1 + questions
    assert one.cost_usd == pytest.approx(calls * (100 * 1.0 + 10 * 2.0) / 1e6)
    assert len(double.questions) == questions
    assert {frozenset(answers_in(question)) for question in double.questions} == {frozenset((SERVING, TRYING))}
    assert len({answers_in(question) for question in double.questions}) == questions, "each order once"
    assert not any(name in question for question in double.questions for name in ("tiny", "small"))
    assert all(QUERY in question for question in double.questions)


@pytest.mark.slow
def test_where_the_trial_decides_its_answer_is_still_the_one_that_wins(
    load: Callable[..., Router], double: Double
) -> None:
    (one,) = asyncio.run(ask(load(share=1.0)))
    assert (one.result, one.serving, one.trying) == ("won", "small", "tiny")
    assert double.asked("small") == double.asked("tiny") == 1


@pytest.mark.slow
def test_what_is_pinned_unlogged_or_outside_the_share_is_not_compared(
    load: Callable[..., Router], double: Double
) -> None:
    assert asyncio.run(ask(load(), model="small")) == []
    assert asyncio.run(ask(load(), log=False)) == []
    assert asyncio.run(ask(load(compare=0.0))) == []
    assert asyncio.run(ask(load(judge=None))) == []
    assert (double.asked("tiny"), double.questions) == (0, [])


@pytest.mark.slow
def test_the_budget_ends_the_comparisons_and_a_restart_does_not_begin_it_anew(
    load: Callable[..., Router], double: Double, caplog: pytest.LogCaptureFixture
) -> None:
    queries = [f"{QUERY} number {number}" for number in range(4)]
    (first,) = asyncio.run(ask(load(max_usd=1.0)))
    estimate = 0.05  # more than the most that one of these may cost
    budget = first.cost_usd * 2 + estimate
    spent = asyncio.run(ask(load(max_usd=budget), *queries))
    assert sum(one.cost_usd for one in spent) <= budget
    again = asyncio.run(ask(load(max_usd=first.cost_usd), *queries))
    assert len(again) == len(spent), "what was spent before counts"
    assert asyncio.run(ask(load(price=None, max_usd=5.0), *queries))[len(spent) :] == []
    assert caplog.text.count("no price is known") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(fail(500), "UnavailableError", id="it fails"),
        pytest.param(answer(calls=[]), "EmptyAnswerError", id="it says nothing"),
    ],
)
def test_an_answer_that_fails_is_no_result_and_no_matter_of_the_request(
    load: Callable[..., Router], double: Double, reply: Reply, kind: str
) -> None:
    double.trying = reply
    (one,) = asyncio.run(ask(load()))
    assert (one.result, one.error_kind) == (None, kind)
    assert double.questions == []


@pytest.mark.slow
def test_a_request_waits_for_no_comparison_those_beyond_the_limit_are_dropped_and_the_end_books_them(
    load: Callable[..., Router], double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semroute.router.shadow.FINISH_S", 0.05)
    reached = threading.Semaphore(0)

    def judging(first: str, second: str) -> Reply:
        reached.release()
        return hang()

    double.judging = judging

    async def run() -> list[LoggedComparison]:
        router = load()
        for number in range(AT_ONCE + 2):
            completion = await router.acomplete(f"{QUERY} number {number}")
            assert completion.text == SERVING
        for _ in range(AT_ONCE):
            await asyncio.to_thread(reached.acquire)
        assert router._comparer is not None
        assert len(router._comparer._tasks) == AT_ONCE
        await router._comparer.finish()
        found = compared(router)
        await router.aclose()
        return found

    found = asyncio.run(run())
    assert [one.error_kind for one in found] == ["Cancelled"] * AT_ONCE
    assert all(one.cost_usd > 0 for one in found), "the other answer was paid"


@pytest.mark.slow
def test_a_synchronous_caller_s_comparisons_end_with_the_router(load: Callable[..., Router], double: Double) -> None:
    with load() as router:
        assert router.complete(QUERY).text == SERVING
    with load(judge=None) as again:
        (one,) = compared(again)
    assert one.result == "won"


@pytest.mark.slow
def test_the_log_of_a_comparison_has_no_word_of_the_answers(
    load: Callable[..., Router], double: Double, tmp_path: Path
) -> None:
    asyncio.run(ask(load()))
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("log.db*"))
    assert b"tiny" in raw
    assert SERVING.encode() not in raw
    assert TRYING.encode() not in raw


@pytest.mark.slow
def test_a_cascade_answers_as_it_would_have_and_the_same_model_at_its_end_is_a_tie(
    load: Callable[..., Router], double: Double, tmp_path: Path
) -> None:
    router = load  # the policy's file is read when the router is opened
    (tmp_path / "policy.yaml").write_text(
        "strategies: [rules]\nfallback: {models: [tiny, large]}\n"
        'cascade: {tiers: [tiny, large], accept: {format: {pattern: "boiling"}}}\n'
    )
    double.judging = lambda first, second: "tie"
    (one,) = asyncio.run(ask(router()))
    assert (one.result, one.trying) == ("tied", "large")
    assert double.asked("tiny") == double.asked("large") == 1


def test_the_card_counts_and_its_sentence_says_how_sure_it_is() -> None:
    rows = [_row(result) for result in ["won"] * 30 + ["tied"] * 50 + ["lost"] * 20 + [None] * 3]  # type: ignore[list-item]
    card = ComparisonCard.of(rows)
    assert (card.won, card.tied, card.lost, card.failed) == (30, 50, 20, 3)
    assert card.usd == pytest.approx(1.03)
    # Wilson's interval of 80 of 100.
    assert (card.no_worse.low, card.no_worse.high) == pytest.approx((0.7112, 0.8666), abs=1e-4)
    assert card.lead is not None
    assert card.lead.value == pytest.approx(0.1)
    assert card.lead.low < 0.1 < card.lead.high
    assert "no worse in 80.0% (71.1% to 86.7%) of 100 comparisons" in card.sentence
    assert "no two answers" in ComparisonCard.of([]).sentence


def _row(result: Any) -> LoggedComparison:
    from datetime import UTC, datetime

    return LoggedComparison("0", datetime.now(UTC), "p", "o", "small", "tiny", "judge", 0.01, result)

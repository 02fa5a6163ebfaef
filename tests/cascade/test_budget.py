"""``cascade.max_usd``: every call of a query is counted before it is made."""

from __future__ import annotations

from typing import Any

import pytest

from semroute.cascade import Cascade
from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import DispatchError, NoDeploymentError
from semroute.router.query import ConstrainedClient
from semroute.testing import answer, fail, malformed
from semroute.types import Completion, Request, total_cost

ASKED = Request(({"role": "user", "content": "how many are there?"},), max_tokens=100)
EACH = {"small": 0.0001, "medium": 0.001, "large": 0.01}
"""USD that the longest answer costs at least."""
SAMPLED = {"tiers": ["small", "large"], "accept": {"consistency": 0.9}}


def spent(completion: Completion) -> float:
    cost = total_cost(completion.attempts)
    return 0.0 if cost is None else cost.usd


def test_a_second_answer_is_not_drawn_where_it_would_exceed_the_budget(bench: Any) -> None:
    bench.provider.always(answer("a few", input_tokens=10, output_tokens=90))
    completion = bench.ask({**SAMPLED, "max_usd": 1.5 * EACH["small"]}, ASKED)
    assert bench.called == ["small"]
    assert spent(completion) <= 1.5 * EACH["small"]
    first, second = completion.tiers
    assert "no second answer" in first.reason
    assert "left of the request's budget" in first.reason
    assert "above cascade.max_usd" in second.reason


@pytest.mark.slow
def test_a_second_answer_that_the_budget_allows_is_drawn(bench: Any) -> None:
    bench.provider.always(answer("a few", input_tokens=10, output_tokens=90))
    completion = bench.ask({**SAMPLED, "max_usd": 3 * EACH["small"]}, ASKED)
    assert bench.called == ["small", "small"]
    assert completion.tiers[0].accepted


def unpriced(bench: Any, cascade: dict[str, Any], *names: str, **sections: Any) -> Any:
    config = bench.config(cascade, **sections)
    places = [
        place.model_copy(update={"price": None}) if place.model in names else place for place in config.deployments
    ]
    return config.model_copy(update={"deployments": tuple(places)})  # fmt: skip


async def answered(bench: Any, config: Any, dispatcher: Dispatcher, **more: Any) -> Completion:
    answer: Completion = await bench.answer(config, dispatcher, ASKED, **more)
    return answer


@pytest.mark.parametrize("name", ["small", "medium"])
def test_a_tier_of_unknown_price_is_left_out_and_says_so(bench: Any, name: str) -> None:
    bench.provider.script(*[answer("")] * (name == "medium"), answer("a few"))
    config = unpriced(bench, {"max_usd": 1.0}, name)
    completion = bench.run(config, lambda dispatcher: answered(bench, config, dispatcher))
    assert name not in bench.called
    (left,) = [result for result in completion.tiers if result.candidate == name]
    assert left.reason == "left out: its price is not known, and cascade.max_usd is 1: add price"


def test_without_a_budget_a_price_need_not_be_known(bench: Any) -> None:
    bench.provider.script(answer("a few"))
    config = unpriced(bench, {}, "small")
    assert bench.run(config, lambda dispatcher: answered(bench, config, dispatcher)).tier == 0


def test_where_no_tier_may_be_paid_the_error_says_why(bench: Any) -> None:
    config = unpriced(bench, {"max_usd": 1.0}, "small", "medium", "large")
    with pytest.raises(NoDeploymentError, match="price is not known"):
        bench.run(config, lambda dispatcher: answered(bench, config, dispatcher))
    assert bench.called == []


def test_the_places_of_a_group_are_bounded_one_by_one(bench: Any) -> None:
    # The cheapest one fails; the next of the group would cost ten times as much.
    bench.provider.script(fail(500), answer("a few"))
    cascade = {"tiers": ["any", "large"], "max_usd": 0.5 * EACH["medium"]}
    config = bench.config(cascade, groups={"any": ["small", "medium"]})
    with pytest.raises(DispatchError):
        bench.run(config, lambda dispatcher: answered(bench, config, dispatcher))
    assert bench.called == ["small"]


def test_what_deciding_cost_counts(bench: Any) -> None:
    config = bench.config({"tiers": ["small", "medium"], "max_usd": 2 * EACH["small"]})

    async def ask(dispatcher: Dispatcher) -> Completion:
        client, spent_usd = ConstrainedClient(dispatcher, Constraints()), 1.5 * EACH["small"]
        cascade = Cascade.of(config.cascade)
        return await cascade.run("how many?", ASKED, client, deadline_s=60.0, spent_usd=spent_usd)

    with pytest.raises(NoDeploymentError, match=r"above cascade\.max_usd"):
        bench.run(config, ask)
    assert bench.called == []


@pytest.mark.parametrize(("times", "calls"), [(1.5, 1), (2.5, 2)])
def test_attempts_of_a_call_that_were_charged_and_failed_share_its_budget(bench: Any, times: float, calls: int) -> None:
    bench.provider.always(malformed())  # charged: the question was read
    asked = Request(({"role": "user", "content": "word " * 200},), max_tokens=10)
    config = bench.config({}, retries={"same_place": 3, "attempts": 6, "backoff_s": 0.001})

    async def ask(dispatcher: Dispatcher) -> int:
        estimate = await dispatcher.estimate(asked, ["small"])
        assert estimate.usd is not None
        with pytest.raises(DispatchError) as caught:
            await dispatcher.complete(asked, ["small"], Constraints(total_usd=times * estimate.usd))
        cost = total_cost(caught.value.attempts)
        assert cost is not None
        assert cost.usd <= times * estimate.usd
        return len(caught.value.attempts)

    assert bench.run(config, ask) == calls

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.errors import DispatchError
from semroute.router import Router
from semroute.testing import FakeProvider, answer, fail, hang

FOREIGN = "zxqv"
"""Fits no category."""


def judged(index: Path, provider: FakeProvider, **judge: Any) -> Router:
    def place(model: str, **more: Any) -> dict[str, Any]:
        price = {"input": 1.0, "output": 1.0}
        return {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "price": price, **more}

    config = Config.model_validate(
        {
            "models": {"small": {}, "large": {}, "judge": {"capabilities": ["json_schema"]}},
            "deployments": [place("small"), place("large", region="eu"), place("judge", region="us")],
            "judge": {"model": "judge", "candidates": ["small", "large"], **judge},
        }
    )
    return Router.load(index, config=config)


def choosing(number: int) -> Any:
    return answer(json.dumps({"model": str(number)}))


@pytest.mark.slow
def test_a_query_that_fits_no_category_is_judged_once_and_its_calls_are_accounted(
    routing_index: Path, provider: FakeProvider
) -> None:
    provider.script(choosing(1))
    router = judged(routing_index, provider)
    decision = router.route(FOREIGN)
    assert (decision.strategy, decision.model, decision.is_fallback) == ("judge", "small", False)
    assert decision.cost is not None
    assert decision.cost.usd > 0
    again = router.route(FOREIGN)
    assert (again.model, again.cost) == ("small", None)
    assert len(provider.requests) == 1


@pytest.mark.slow
def test_the_judge_and_the_answer_are_both_in_the_total(routing_index: Path, provider: FakeProvider) -> None:
    provider.script(choosing(2), answer("forty-two"))
    completion = judged(routing_index, provider).complete(FOREIGN)
    assert (completion.text, completion.model) == ("forty-two", "large")
    assert completion.total_cost is not None
    assert completion.cost is not None
    assert completion.decision is not None
    assert completion.decision.cost is not None
    assert completion.total_cost.usd == pytest.approx(completion.cost.usd + completion.decision.cost.usd)


@pytest.mark.slow
def test_what_a_category_decides_is_not_judged(routing_index: Path, provider: FakeProvider) -> None:
    assert judged(routing_index, provider).route("recipe for carrot soup").strategy == "semantic"
    assert not provider.requests


@pytest.mark.slow
def test_where_the_model_is_pinned_nobody_is_asked(routing_index: Path, provider: FakeProvider) -> None:
    router = judged(routing_index, provider)
    assert router.complete(FOREIGN, model="small").model == "small"
    assert router.complete(FOREIGN, constraints=Constraints(deployment="large-1")).deployment == "large-1"
    assert len(provider.requests) == 2


@pytest.mark.slow
@pytest.mark.parametrize("reply", [fail(500), hang(), answer("the biggest, of course")])
def test_without_a_usable_judgement_the_query_goes_where_it_would_go_without(
    routing_index: Path, provider: FakeProvider, reply: Any
) -> None:
    provider.script(reply, fail(500), fail(500))
    decision = judged(routing_index, provider, timeout_s=0.3).route(FOREIGN)
    assert (decision.model, decision.is_fallback) == ("large", True)
    assert [opinion.kind for opinion in decision.opinions] == ["passed", "passed"]


@pytest.mark.slow
def test_a_text_that_must_stay_in_a_region_is_not_shown_to_a_judge_elsewhere(
    routing_index: Path, provider: FakeProvider
) -> None:
    completion = judged(routing_index, provider).complete(FOREIGN, constraints=Constraints(regions=frozenset({"eu"})))
    assert completion.deployment == "large-1"
    assert len(provider.requests) == 1


@pytest.mark.slow
def test_lists_of_names_are_meant_for_the_answer_and_not_for_the_judge(
    routing_index: Path, provider: FakeProvider
) -> None:
    provider.script(choosing(1))
    completion = judged(routing_index, provider).complete(
        FOREIGN, constraints=Constraints(allow=frozenset({"small", "large"}))
    )
    assert completion.model == "small"


@pytest.mark.slow
def test_the_shorter_of_two_deadlines_holds(routing_index: Path, provider: FakeProvider) -> None:
    provider.always(hang())
    router = judged(routing_index, provider, timeout_s=600)

    async def within() -> None:
        with pytest.raises(DispatchError):
            await router.acomplete(FOREIGN, constraints=Constraints(deadline_s=0.3))

    asyncio.run(asyncio.wait_for(within(), PATIENCE_S))

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semroute.catalog import estimate_text_tokens
from semroute.config import Config, Price
from semroute.config.load import validate
from semroute.errors import SemrouteError
from semroute.router import Router
from semroute.types import Request
from semroute.workflows.assumptions import assumptions, gaps
from semroute.workflows.estimate import Escalation, Estimate, EstimateTally, tally_requests, without_calls
from semroute.workflows.pool import PricedPool
from semroute.workflows.requests import RequestRow, parse_row

PRICES = {"small": Price(input=1, output=2), "large": Price(input=10, output=40), "gpt-x": Price(input=5, output=20)}
CODE, COOKING = "fix the python loop", "boil a egg"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100}
CATEGORIES = "categories: {code: {models: [large]}, cooking: {models: [small]}}\n"


def config_of(text: str) -> Config:
    config, problems = validate(CATEGORIES + text)
    assert config is not None, problems
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, work = tmp_path_factory.mktemp("tiny"), tmp_path_factory.mktemp("work")
    return tiny.index(made / "index", work).folder


@cache
def router_of(folder: Path, text: str) -> Router:
    return Router.load(folder, config=without_calls(config_of(text)), log=False)


def tally_of(
    folder: Path, rows: Sequence[dict[str, Any]], text: str = "", *, prices: Any = PRICES, **options: Any
) -> EstimateTally:
    router, config = router_of(folder, text), config_of(text)
    names = [name for models in router.live.models.values() for name in models]
    tally = EstimateTally(config, PricedPool(config, prices, (*names, *router.live.fallback)), **options)
    found = list(tally_requests(tally, router, map(parse_row, rows)))
    assert not any(isinstance(one, SemrouteError) for one in found)
    return tally


def usd_of(made: Estimate) -> tuple[float, float]:
    return pytest.approx(made.now_usd), pytest.approx(made.routed_usd)


def test_the_bills_are_those_worked_out_by_hand(folder: Path) -> None:
    rows = [
        {"query": CODE, "usage": USAGE},  # large: 1,000 * 10 + 100 * 40 = 0.014
        {"query": COOKING, "usage": USAGE},  # small: 1,000 * 1 + 100 * 2 = 0.0012
        {"query": COOKING, "usage": USAGE, "model": "gpt-x"},  # now: 1,000 * 5 + 100 * 20 = 0.007
    ]
    made = tally_of(folder, rows).estimate(per_month=300)
    assert made.now_usd == pytest.approx(0.014 + 0.014 + 0.007)
    assert made.routed_usd == pytest.approx(0.014 + 0.0012 + 0.0012)
    assert {share.model: share.requests for share in made.routed} == {"large": 1, "small": 2}
    assert {share.model: share.share for share in made.now} == {
        "large": pytest.approx(2 / 3),
        "gpt-x": pytest.approx(1 / 3),
    }
    assert made.monthly(made.now_usd) == pytest.approx(3.5)
    assert made.saved(made.routed_usd) == pytest.approx(1 - 0.0164 / 0.035)
    assert made.assumed_now == "large"


def test_cached_input_is_charged_as_such_now_and_routed(folder: Path) -> None:
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 1000}}
    text = "deployments: [{name: s, model: small, price: {input: 1, output: 2, cached_input: 0.1}}]"
    made = tally_of(folder, [{"query": COOKING, "usage": usage}], text, prices={}).estimate()
    assert made.now_usd == made.routed_usd == pytest.approx(0.0003)


def test_answers_are_counted_recorded_limited_or_assumed(folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"query": COOKING, "prompt_tokens": 0, "completion_tokens": 7},
        {"query": COOKING, "prompt_tokens": 0, "response": "seven minutes"},
        {"query": COOKING, "prompt_tokens": 0, "max_tokens": 20},
        {"query": COOKING, "prompt_tokens": 0, "max_tokens": 4000},
        {"query": COOKING, "prompt_tokens": 0, "n": 3},
        {"query": COOKING, "prompt_tokens": 0, "max_tokens": 20, "n": 2},
    ]
    lengths = [7, estimate_text_tokens("seven minutes"), 20, 50, 150, 40]
    for row, length in zip(rows, lengths, strict=True):
        made = tally_of(folder, [row], output_tokens=50).estimate()
        assert made.output_tokens == length
        assert made.routed_usd == pytest.approx(length * 2 / 1e6)
    made = tally_of(folder, rows, output_tokens=50).estimate()
    assert made.outputs == {
        "assumed": pytest.approx(1 / 3),
        "counted": pytest.approx(1 / 6),
        "limited": pytest.approx(1 / 3),
        "recorded": pytest.approx(1 / 6),
    }


def test_a_count_weighs_like_as_many_rows(folder: Path) -> None:
    rows = [{"query": CODE}, {"query": COOKING, "model": "gpt-x"}]
    many = tally_of(folder, [rows[0], *[rows[1]] * 9]).estimate()
    one = tally_of(folder, [rows[0], {**rows[1], "count": 9}]).estimate()
    assert (one.rows, one.requests) == (2, many.requests)
    assert usd_of(one) == usd_of(many)
    assert one.input_tokens == pytest.approx(many.input_tokens)


def test_a_month_is_given_counted_or_measured(folder: Path) -> None:
    stamped = [{"query": CODE, "at": f"2026-11-{day:02}T00:00:00Z"} for day in (1, 6, 11)]
    measured = tally_of(folder, stamped).estimate().month
    assert measured is not None
    assert (measured.source, measured.days, measured.requests) == ("timestamps", 10.0, pytest.approx(3 * 30.44 / 10))
    given_month = tally_of(folder, stamped).estimate(per_month=5000).month
    assert given_month is not None
    assert given_month.requests == 5000
    days = tally_of(folder, [{"query": CODE, "date": f"2026-11-{day:02}"} for day in range(1, 31)]).estimate().month
    assert days is not None
    assert days.days == 30  # the last day is a whole one
    counts = tally_of(folder, [{"query": CODE, "per_month": 600}, {"query": COOKING, "per_month": 400}]).estimate()
    assert counts.month is not None
    assert (counts.month.requests, counts.scale) == (1000, 1.0)
    assert tally_of(folder, [*stamped, {"query": CODE}]).estimate().month is None
    assert tally_of(folder, stamped[:1]).estimate().month is None


def test_a_cascade_is_a_range_over_the_assumed_rate(folder: Path) -> None:
    rows = [{"query": CODE, "usage": USAGE}, {"query": COOKING, "usage": USAGE}]
    tally = tally_of(folder, rows, tiers=("small", "gpt-x", "large"))
    cascade = tally.estimate(escalation=Escalation(0.1, 0.2, 0.5, "given")).cascade
    assert cascade is not None
    assert cascade.by_tier == (pytest.approx(0.0024), pytest.approx(0.014), pytest.approx(0.028))
    assert cascade.usd(0.1) == pytest.approx(0.0024 + 0.0014 + 0.00028)
    assert cascade.usd(0.5) == pytest.approx(0.0024 + 0.007 + 0.007)
    even = cascade.break_even(0.0152)  # of the routed: large and small
    assert even is not None
    assert cascade.usd(even) == pytest.approx(0.0152)
    assert (cascade.break_even(0.001), cascade.break_even(1.0)) == (None, 1.0)


def test_the_cascade_of_the_configuration_is_the_routers_own(folder: Path) -> None:
    text = "cascade: {tiers: [small, large]}"
    both = "deployments: [{name: s, model: small}, {name: l, model: large}]\n" + text
    rows = [{"query": CODE, "usage": USAGE}, {"query": COOKING, "usage": USAGE}]
    assert tally_of(folder, rows, both).estimate(escalation=Escalation(0.1, 0.2, 0.3, "")).cascade is None
    wide = both.replace(text, "") + "fallback: {models: [large]}\n"
    own = "categories: {cooking: {models: [small, large], cascade: {tiers: [small, large]}}, code: {models: [large]}}\n"
    config, problems = validate(wide + own)
    assert config is not None, problems
    router = Router.load(folder, config=config, log=False)
    tally = EstimateTally(config, PricedPool(config, PRICES))
    assert list(tally_requests(tally, router, map(parse_row, rows))) == [2]
    cascade = tally.estimate(escalation=Escalation(0.1, 0.2, 0.3, "")).cascade
    assert cascade is not None
    assert (cascade.tiers, cascade.requests) == (("small", "large"), 1)
    # The request without a cascade is charged as routed, whatever the rate.
    assert cascade.by_tier == (pytest.approx(0.014 + 0.0012), pytest.approx(0.014))


def test_a_second_answer_that_is_compared_is_charged(folder: Path) -> None:
    own = "cascade: {tiers: [small, large], accept: {consistency: 0.8}}"
    text = f"categories: {{cooking: {{models: [small, large], {own}}}}}\n"
    config, problems = validate(text)
    assert config is not None, problems
    router = Router.load(folder, config=config, log=False)
    tally = EstimateTally(config, PricedPool(config, PRICES), now="large")
    list(tally_requests(tally, router, [parse_row({"query": COOKING, "usage": USAGE})]))
    cascade = tally.estimate(escalation=Escalation(0.1, 0.2, 0.3, "")).cascade
    assert cascade is not None
    assert cascade.by_tier == (pytest.approx(2 * 0.0012), pytest.approx(0.014))


def test_what_has_no_price_is_in_no_bill_and_is_named_with_what_was_meant(folder: Path) -> None:
    rows = [{"query": COOKING, "usage": USAGE}, {"query": COOKING, "usage": USAGE, "model": "gpt-4o-minni"}]
    tally = tally_of(folder, rows)
    made = tally.estimate()
    assert (made.requests, made.compared, dict(made.unpriced)) == (2, 1, {"gpt-4o-minni": 1})
    assert (made.now_usd, made.routed_usd) == (pytest.approx(0.014), pytest.approx(0.0012))
    said = " ".join(gaps(made, tally._pool))
    assert '"gpt-4o-minni" (1 request): did you mean "gpt-4o-mini"?' in said
    assert "1 of 2 requests" in said


def test_a_tier_without_a_price_leaves_the_other_bills(folder: Path) -> None:
    made = tally_of(folder, [{"query": COOKING, "usage": USAGE}], tiers=("small", "zzz")).estimate(
        escalation=Escalation(0.1, 0.2, 0.3, "")
    )
    assert (made.cascade, dict(made.unpriced), made.routed_usd) == (None, {"zzz": 1}, pytest.approx(0.0012))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_names_of_models(folder: Path) -> None:
    rows = [{"query": COOKING, "model": f"unknown {number}"} for number in range(1100)]
    made = tally_of(folder, rows).estimate()
    assert (len(made.now), sum(share.requests for share in made.now)) == (1001, 1100)


def test_json_holds_what_the_estimate_says(folder: Path) -> None:
    rows = [{"query": CODE, "usage": USAGE}, {"query": COOKING, "usage": USAGE}]
    tally = tally_of(folder, rows, tiers=("small", "large"))
    made = tally.estimate(per_month=2_000_000, escalation=Escalation(0.1, 0.2, 0.4, "assumed"))
    value = json.loads(json.dumps(made.to_dict()))
    assert value["month"] == {"requests": 2_000_000, "source": "--per-month", "days": None, "is_short": False}
    assert value["now"]["usd_a_month"] == pytest.approx(28_000)
    assert value["routed"]["usd_a_month"] == pytest.approx(15_200)
    assert value["cascade"]["low"]["usd_a_month"] == pytest.approx(2_400 + 2_800)
    assert value["cascade"]["high"]["saved"] == pytest.approx(1 - (2_400 + 11_200) / 28_000)
    assert value["cascade"]["break_even_routed"] == pytest.approx((15_200 - 2_400) / 28_000)
    assert any("10% to 40%" in words for words in assumptions(made, tally._pool))


@cache
def alone(folder: Path) -> Router:
    config = Config.model_validate({"categories": {name: {"models": ["large"]} for name in ("code", "cooking")}})
    return Router.load(folder, config=config, log=False)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value of nested JSON with its path."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{path}/{key}")
    else:
        yield path, value


ROWS = st.lists(
    st.fixed_dictionaries(
        {"query": st.sampled_from([CODE, COOKING, "the soup", "sql ?", "how"])},
        optional={
            "model": st.sampled_from(["small", "large", "gpt-x", "nobody's"]),
            "count": st.integers(1, 1000),
            "max_tokens": st.integers(1, 1000),
            "usage": st.builds(
                lambda sent, received: {"prompt_tokens": sent, "completion_tokens": received},
                st.integers(0, 10**6),
                st.integers(0, 10**5),
            ),
        },
    ),
    min_size=1,
    max_size=20,
)
INVARIANT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@INVARIANT
@given(rows=ROWS, seed=st.integers(0, 100))
def test_shares_sum_to_one_and_the_order_of_rows_does_not_matter(
    folder: Path, rows: list[dict[str, Any]], seed: int
) -> None:
    made = tally_of(folder, rows, tiers=("small", "large")).estimate(escalation=Escalation(0.1, 0.2, 0.4, ""))
    assert sum(share.share for share in made.routed) == pytest.approx(1)
    assert sum(share.share for share in made.now) == pytest.approx(1)
    assert made.compared + sum(made.unpriced.values()) == pytest.approx(made.requests)
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    again = tally_of(folder, shuffled, tiers=("small", "large")).estimate(escalation=Escalation(0.1, 0.2, 0.4, ""))
    before, after = dict(leaves(made.to_dict())), dict(leaves(again.to_dict()))
    assert before.keys() == after.keys()
    for path, value in before.items():
        # Where two bills are equal but for rounding, the rate at which they are may be none or any.
        if "break_even" not in path:
            assert after[path] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), path
    assert [share.model for share in again.routed] == [share.model for share in made.routed]


@pytest.mark.slow
@INVARIANT
@given(rows=ROWS)
def test_with_one_model_routing_costs_what_it_costs_now(folder: Path, rows: list[dict[str, Any]]) -> None:
    rows, router = [{**row, "model": None} for row in rows], alone(folder)
    config = router.config
    tally = EstimateTally(config, PricedPool(config, PRICES), now="large")
    list(tally_requests(tally, router, map(parse_row, rows)))
    made = tally.estimate()
    assert made.now_usd == made.routed_usd
    assert made.saved(made.routed_usd) in (0.0, None)


@pytest.mark.slow
@INVARIANT
@given(rows=ROWS, low=st.floats(0, 1), more=st.floats(0, 1))
def test_a_cascade_costs_more_the_more_escalates(
    folder: Path, rows: list[dict[str, Any]], low: float, more: float
) -> None:
    high = low + more * (1 - low)
    cascade = (
        tally_of(folder, rows, tiers=("small", "large")).estimate(escalation=Escalation(low, low, high, "")).cascade
    )
    if cascade is None:
        return
    assert cascade.usd(0.0) <= cascade.usd(low) <= cascade.usd(high) + 1e-12
    assert cascade.usd(high) <= sum(cascade.by_tier) + 1e-12


def test_rows_of_a_router_need_no_file(folder: Path) -> None:
    router = Router.load(folder, log=False)
    tally = EstimateTally(router.config, PricedPool(router.config, PRICES))
    request = Request(({"role": "user", "content": COOKING},))
    tally.add(RequestRow(request), router.route(request))
    assert tally.estimate().requests == 1

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.testing import FakeProvider, fail

SCRIPTS = Path(__file__).parents[2] / "scripts"


def part(name: str) -> ModuleType:
    return __import__(f"gateway_bench.{name}", fromlist=["x"])


@pytest.mark.slow
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_enough_others_do_not_exceed(values: list[float], percent: int) -> None:
    found = part("figures").percentile(values, percent / 100)
    within = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert found in values
    assert 100 * within >= percent * len(values)
    assert 100 * below < percent * len(values)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_percentile_of_nothing_or_of_no_share_is_an_error(share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        part("figures").percentile([1.0], share)
    with pytest.raises(ValueError, match="percentile"):
        part("figures").percentile([], 0.5)


def setting(model: str = "small", streaming: bool = False, connections: int = 2, tokens: int = 100) -> object:
    return part("load").Setting(model, connections, streaming, tokens, 4)


def run(server: str, turn: int, ms: float, asked: object | None = None) -> object:
    return part("figures").Run(server, asked or setting(), turn, [ms / 2] * 4, [ms] * 4, wall_s=ms / 1000, cpu_s=0.004)


def test_what_is_added_is_the_difference_to_the_direct_call_of_the_same_round() -> None:
    direct = [run("direct", turn, ms) for turn, ms in ((1, 10.0), (2, 100.0), (3, 1000.0))]
    gateway = [run("gateway", turn, ms) for turn, ms in ((1, 12.0), (2, 104.0), (3, 1003.0))]
    found = part("figures").figures(gateway, direct)
    assert found.added_ms == (3.0, 3.0, 3.0)
    assert found.first_ms == pytest.approx(1.5)
    assert found.rate == pytest.approx(4 / 0.104)
    assert found.cpu_ms == pytest.approx(1.0)


def test_a_table_has_a_row_for_each_server_and_setting_and_the_ratios_to_the_peer() -> None:
    auto = setting("auto")
    runs = [run("direct", 1, 10.0), run("ours", 1, 20.0), run("theirs", 1, 80.0), run("ours", 1, 30.0, auto)]
    lines = list(part("figures").tables(runs, "direct", "ours", "theirs"))
    assert "| direct | small | 2 | whole | 100 |  |  |  |  | 400 | 1.00 |" in lines
    assert "| ours | auto | 2 | whole | 100 | +20.0 | +20.0 | +20.0 | +10.0 | 133 | 1.00 |" in lines
    assert lines[-1] == "| small | 2 | whole | 100 | 4.0 | 100% |"


@pytest.mark.parametrize("streaming", [False, True])
def test_the_load_measures_every_request_over_no_more_connections_than_it_should(streaming: bool) -> None:
    with FakeProvider() as provider:
        found = asyncio.run(part("load").burst(provider.base_url, setting(streaming=streaming)))
        asked = [request.body["messages"][-1]["content"] for request in provider.requests]
    assert len(found.total_s) == len(found.first_s) == len(set(asked)) == 4
    assert all(0 < first <= total for first, total in zip(found.first_s, found.total_s, strict=True))
    assert streaming == all(first < total for first, total in zip(found.first_s, found.total_s, strict=True))


def test_an_answer_that_is_an_error_ends_the_measurement() -> None:
    with FakeProvider() as provider:
        provider.always(fail(500))
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(part("load").burst(provider.base_url, setting()))
    assert caught.group_contains(part("load").AnswerError, match="500")


def test_a_prompt_has_about_as_many_tokens_as_asked_for() -> None:
    load = part("load")
    assert len(load.body_of(setting(tokens=1000), 1).split()) == pytest.approx(1000 * 18 / 20, rel=0.1)

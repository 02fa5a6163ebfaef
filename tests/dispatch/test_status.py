from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from semroute.config import BreakerRules, Config
from semroute.dispatch.status import Reporter, describe, enable, endpoints_of, read_status, restore_state, save_state
from semroute.errors import DataError
from semroute.resilience import LatencyWindows, MemoryGates
from semroute.resilience.gates import open_gates
from semroute.resilience.redis.failover import FailoverGates
from semroute.types import BreakerState, CallResult, Permit

CONFIG = Config.model_validate(
    {
        "deployments": [
            {"name": "a", "model": "m", "api_key_env": ["ONE", "TWO"]},
            {"name": "b", "model": "m"},
        ],
        "budgets": {"ONE": 10.0},
    }
)


def spent_gates(usd: float) -> MemoryGates:
    gates = MemoryGates(BreakerRules())

    async def spend() -> None:
        permit = await gates.acquire(endpoints_of(CONFIG)[0], 10, usd)
        assert isinstance(permit, Permit)
        await gates.release(permit, CallResult.SUCCESS, tokens=10, usd=usd)

    asyncio.run(spend())
    return gates


def saved(path: Path, gates: MemoryGates) -> dict[str, Any]:
    description = asyncio.run(describe(gates, LatencyWindows(), CONFIG))
    save_state(path, gates, description)
    return description


def test_every_deployment_with_every_key_is_a_place() -> None:
    assert [place.key for place in endpoints_of(CONFIG)] == ["a|ONE", "a|TWO", "b|"]


def test_the_months_spending_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    saved(path, spent_gates(3.0))
    fresh = MemoryGates(BreakerRules())
    restore_state(path, fresh)
    (status, *_) = asyncio.run(fresh.statuses(endpoints_of(CONFIG)))
    assert status.spent_usd == pytest.approx(3.0)


def test_status_shows_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    description = saved(path, spent_gates(3.0))
    found = asyncio.run(read_status(CONFIG, {}, file=path))
    assert found["places"] == json.loads(json.dumps(description["places"]))
    assert str(path) in found["source"]


def test_without_a_file_the_spending_starts_at_nothing(tmp_path: Path) -> None:
    gates = MemoryGates(BreakerRules())
    restore_state(tmp_path / "none.json", gates)
    assert asyncio.run(gates.statuses(endpoints_of(CONFIG)))[0].spent_usd == 0.0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"at": 1, "places": [], "latencies": [], "gates": 3}',
        '{"at": 1, "places": 3, "latencies": [], "gates": {}}',
        '{"at": 1, "places": [{}], "latencies": [], "gates": {}}',
        '{"at": 1, "places": [], "latencies": [[]], "gates": {}}',
    ],
)
def test_a_file_of_another_kind_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"state\.json.*delete"):
        restore_state(path, MemoryGates(BreakerRules()))


def test_saving_replaces_the_file_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for usd in (1.0, 2.0):
        saved(path, spent_gates(usd))
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
    assert json.loads(path.read_text())["places"][0]["spent_usd"] == pytest.approx(2.0)


def test_a_report_that_cannot_be_written_is_a_warning_and_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    gates = MemoryGates(BreakerRules())
    reporter = Reporter(gates, LatencyWindows(), CONFIG, tmp_path / "file" / "state.json")
    with caplog.at_level(logging.WARNING, logger="semroute"):
        asyncio.run(reporter.report())
    assert "could not be reported" in caplog.text


def test_reports_are_at_most_one_a_second(tmp_path: Path) -> None:
    path, now = tmp_path / "state.json", 100.0
    reporter = Reporter(MemoryGates(BreakerRules()), LatencyWindows(), CONFIG, path, clock=lambda: now)

    async def reported() -> bool:
        path.unlink(missing_ok=True)
        reporter.due()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)
        return path.exists()

    async def often() -> list[bool]:
        nonlocal now
        found = []
        for at in (100.0, 100.9, 101.0, 101.5):
            now = at
            found.append(await reported())
        return found

    assert asyncio.run(often()) == [True, False, True, False]


@pytest.mark.services
def test_a_key_that_was_refused_is_enabled_for_every_replica() -> None:
    url = "redis://127.0.0.1:6379/15"
    config = Config.model_validate(
        {"deployments": [{"name": "enabled-again", "model": "m", "api_key_env": "REFUSED_ONCE"}], "state": url}
    )

    async def refuse_and_enable() -> list[str]:
        gates = open_gates(config, {})
        assert isinstance(gates, FailoverGates)
        await gates.heartbeat()
        if gates.mode != "shared":
            absent(f"no Redis at {url}")
        (place,) = endpoints_of(config)
        permit = await gates.acquire(place, 1)
        assert isinstance(permit, Permit)
        await gates.release(permit, CallResult.DISABLE, reason="refused")
        before = (await gates.statuses([place]))[0].breaker
        await enable(config, {}, "REFUSED_ONCE")
        after = (await gates.statuses([place]))[0].breaker
        await gates.close()
        return [before, after]

    assert asyncio.run(refuse_and_enable()) == [BreakerState.DISABLED, BreakerState.CLOSED]


def absent(what: str) -> None:
    if os.environ.get("SEMROUTE_REQUIRE_SERVICES") == "1":
        pytest.fail(what)
    pytest.skip(what)

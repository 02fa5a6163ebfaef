from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from semroute.testing import FakeProvider, RecordedRequest, fail, reset_after
from semroute.types.records import LoggedCall, LoggedOutcome

SCRIPTS = Path(__file__).parents[2] / "scripts"
PRICE = {"input": 1.0, "output": 2.0}


def part(name: str) -> ModuleType:
    return __import__(f"gateway_faults.{name}", fromlist=["x"])


def asked(number: int = 7, **more: Any) -> Any:
    answered = {"status": 200, "text": f"case-{number} word ", "whole": True, "usd": 3e-6}
    return part("load").Asked(number, "alpha", "calm", False, **{**answered, **more})


def call(number: int = 7, **more: Any) -> RecordedRequest:
    body = {"messages": [{"role": "user", "content": f"case-{number} word"}]}
    return RecordedRequest("POST", "/", {}, body, **{"status": 200, "charged": (1, 1), **more})


def attempt(error: str | None = None, usd: float | None = 3e-6, estimated: bool = False) -> LoggedCall:
    empty = dict.fromkeys(LoggedCall.__slots__)
    given = {"status": None if error else 200, "error_kind": error, "cost_usd": usd, "cost_estimated": estimated}
    return LoggedCall(**{**empty, **given})  # type: ignore[arg-type]


def outcome(*calls: LoggedCall, number: int = 7, key: str = "alpha") -> LoggedOutcome:
    empty = dict.fromkeys(LoggedOutcome.__slots__)
    given = {
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "query": f"case-{number} word",
        "cost_usd": sum(one.cost_usd or 0.0 for one in calls),
        "cost_estimated": any(one.cost_estimated for one in calls),
        "metadata": {"key": key},
        "calls": calls,
    }
    return LoggedOutcome(**{**empty, **given})  # type: ignore[arg-type]


def broken(
    one: Any, calls: Sequence[RecordedRequest], logged: Sequence[LoggedOutcome], *, may_break: bool = False
) -> Mapping[str, Sequence[int]]:
    accounts = part("accounts")
    cases = list(accounts.cases_of([one], calls, logged).values())
    return dict(accounts.account(cases, PRICE, may_break=may_break).broken(may_lose=False))


def test_accounts_that_agree_break_nothing() -> None:
    assert broken(asked(), [call()], [outcome(attempt())]) == {}


@pytest.mark.parametrize(
    ("given", "calls", "logged", "name"),
    [
        ({"status": 503, "whole": False, "usd": None}, [], [outcome()], "lost"),
        ({"text": "case-8 word "}, [call()], [outcome(attempt())], "lost"),
        ({"whole": False, "error": "connection cut"}, [call()], [outcome(attempt())], "connection cut"),
        ({"usd": 6e-6}, [call(), call()], [outcome(attempt(), attempt())], "answered twice"),
        ({}, [call()], [outcome(attempt(), key="beta")], "charged to another key"),
        ({}, [call()], [], "not in the log"),
        ({}, [call()], [outcome(attempt()), outcome()], "logged twice"),
        ({}, [call(), call(status=500, charged=(0, 0))], [outcome(attempt())], "calls in the log"),
        ({"usd": None}, [call()], [outcome(attempt(usd=2e-6))], "cost in the log"),
        ({"usd": 1e-6}, [call()], [outcome(attempt())], "cost in the log"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_invariant_is_seen_to_break(given: Mapping[str, Any], calls: Any, logged: Any, name: str) -> None:
    assert broken(asked(**given), calls, logged) == {name: [7]}


def test_a_call_that_failed_on_its_way_is_no_second_answer_and_its_estimate_no_wrong_cost() -> None:
    failed = attempt("UnavailableError", usd=2e-6, estimated=True)
    assert broken(asked(usd=5e-6), [call(), call()], [outcome(failed, attempt())]) == {}


def test_a_stream_that_a_provider_cut_is_counted_apart() -> None:
    one = asked(whole=False, error="the stream broke", usd=None)
    one.streaming = True
    one.text = "case-7 "
    estimated = attempt("BrokenStreamError", estimated=True)
    assert broken(one, [call()], [outcome(estimated)], may_break=True) == {}
    assert broken(one, [call()], [outcome(estimated)]) == {"lost": [7]}


def test_what_a_key_has_spent_is_held_against_the_log_of_its_requests() -> None:
    accounts = part("accounts")
    cases = accounts.cases_of([asked()], [call()], [outcome(attempt())]).values()
    charged = accounts.charges({"alpha": 3e-6, "beta": 1e-3, "admin": 0.0}, cases, ["alpha", "beta"])
    assert charged == {"alpha": (3e-6, 3e-6), "beta": (1e-3, 0.0)}
    rows = list(accounts.charge_table(charged, is_counted=True))[2:]
    assert [line.rsplit("| ", 1)[1] for line in rows] == ["holds |", "BROKEN |"]


@pytest.mark.slow
def test_the_load_knows_whole_answers_errors_and_cut_streams() -> None:
    with FakeProvider() as provider:
        # Whole and streamed answers in turns; the requests of a turn may overtake each other.
        provider.always(
            lambda record: {"case-2": fail(500), "case-3": reset_after(2)}.get(
                record.body["messages"][0]["content"].split()[0]
            )
        )
        load = part("load").Load(provider.base_url.removesuffix("/v1"), {"alpha": "any"}, rate=100.0)

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                while len(provider.requests) < 6:
                    await asyncio.sleep(0.01)
                load.stop()

        asyncio.run(run())
    first = load.asked[:6]
    assert [one.is_answered for one in first] == [True, True, False, False, True, True]
    assert (first[2].status, first[2].error) == (500, "scripted failure")
    assert first[3].streaming
    assert first[3].error.startswith(part("load").CUT)


@pytest.mark.slow
@pytest.mark.services
def test_a_run_whose_configuration_is_swapped_holds_every_invariant(routing_index: Path, tmp_path: Path) -> None:
    missing = [name for name in ("redis-server", "initdb") if shutil.which(name) is None]
    if missing:
        assert os.environ.get("SEMROUTE_REQUIRE_SERVICES") != "1", f"{missing} are not on the path"
        pytest.skip(f"{', '.join(missing)}: not on the path")
    options = ["--index", routing_index, "--rate", 20, "--seconds", 2, "--only", "calm,config", "--out"]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "bench_gateway_faults.py", *map(str, options), tmp_path / "results.md"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS.parent)},
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.endswith("| hold |")]
    assert [line.split(" | ")[0] for line in rows] == ["| calm", "| config"]
    assert done.stdout.count("| holds |") == 4
    found = json.loads((tmp_path / "results.json").read_text())["accounts"]
    assert all(0 < one["sent"] == one["answered"] and one["billed_usd"] > 0 for one in found.values())

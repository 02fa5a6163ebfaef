from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from semroute.cli.main import cli
from semroute.errors import DataError, InputError, NoDeploymentError
from semroute.testing import FakeProvider, fail

KEY = "sk-proj-a1b2c3d4e5f6g7h8"


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """A provider, and a working folder whose semroute.yaml leads to it in its three formats."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_KEY", KEY)
    with FakeProvider(key=KEY) as running:
        common = {"api_key_env": "TEST_KEY"}
        price = {"input": 1.0, "output": 2.0}
        places = [
            {"name": "spot", "model": "small", "base_url": running.base_url, "price": price, **common},
            {"name": "ant", "model": "large", "format": "anthropic", "base_url": running.anthropic_url, **common},
            {"name": "gem", "model": "large", "format": "gemini", "base_url": running.gemini_url, **common},
        ]
        models = {"small": {"capabilities": ["tools"]}, "large": {}}
        Path("semroute.yaml").write_text(json.dumps({"models": models, "deployments": places}))
        yield running


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["providers", *arguments], terminal_width=200)


def test_check_calls_each_deployment_once_and_shows_what_it_can_do(provider: FakeProvider) -> None:
    done = run("check", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(probe["deployment"], probe["error"]) for probe in found] == [("spot", None), ("ant", None), ("gem", None)]
    assert found[0]["capabilities"] == ["tools"]
    assert found[1]["capabilities"] is None
    assert [probe["has_price"] for probe in found] == [True, False, False]
    assert all(probe["latency_ms"] > 0 for probe in found)
    assert len(provider.requests) == 3


def test_check_shows_a_table_and_fails_when_one_does_not_answer(provider: FakeProvider) -> None:
    provider.script(fail(503), fail(503), fail(503))
    done = run("check")
    assert done.exit_code == 1
    assert "spot" in done.stdout
    assert "503" in done.stdout
    assert KEY not in done.output


def test_check_tells_a_key_that_is_not_set(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    done = run("check", "--json")
    assert done.exit_code == 1
    assert {probe["error"] for probe in json.loads(done.stdout)} == {"TEST_KEY is not set: export it"}
    assert provider.requests == []


def test_without_deployments_init_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("check", "status"):
        error = run(command).exception
        assert isinstance(error, NoDeploymentError)
        assert "semroute init" in str(error)


def test_status_before_any_call_says_so(provider: FakeProvider) -> None:
    found = json.loads(run("status", "--json").stdout)
    assert "nothing was called" in found["source"]
    assert [place["breaker"] for place in found["places"]] == ["closed"] * 3


def test_status_shows_what_the_last_call_left(provider: FakeProvider) -> None:
    asked = CliRunner().invoke(cli, ["ask", "hello there", "--model", "small"])
    assert asked.exit_code == 0, asked.exception
    found = json.loads(run("status", "--json").stdout)
    place = found["places"][0]
    assert (place["deployment"], place["credential"], place["in_flight"]) == ("spot", "TEST_KEY", 0)
    assert place["spent_usd"] > 0
    assert KEY not in Path(".semroute/state.json").read_text()
    table = run("status")
    assert table.exit_code == 0, table.exception
    assert "spot" in table.stdout


def test_the_months_spending_goes_on_from_one_command_to_the_next(provider: FakeProvider) -> None:
    for _ in range(2):
        assert CliRunner().invoke(cli, ["ask", "hello there", "--model", "small"]).exit_code == 0
    place = json.loads(run("status", "--json").stdout)["places"][0]
    one_call = (provider.requests and 2 * 1.0 + 2 * 2.0) / 1e6
    assert place["spent_usd"] == pytest.approx(2 * one_call)


@pytest.mark.parametrize(("variable", "says"), [(KEY, "there are TEST_KEY"), ("TEST_KEY", "state: memory")])
def test_enable_says_what_it_cannot_do_and_repeats_no_key(provider: FakeProvider, variable: str, says: str) -> None:
    done = run("enable", variable)
    assert isinstance(done.exception, InputError)
    assert says in str(done.exception)
    assert KEY not in str(done.exception) + done.output


def test_a_damaged_state_file_is_named(provider: FakeProvider) -> None:
    Path(".semroute").mkdir()
    Path(".semroute/state.json").write_text("{")
    error = run("status").exception
    assert isinstance(error, DataError)
    assert "state.json" in str(error)

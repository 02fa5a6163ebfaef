from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from semroute.cli.ask import summary
from semroute.cli.main import cli
from semroute.errors import AuthenticationError, NoDeploymentError, QueryError
from semroute.testing import FakeProvider, answer, fail
from semroute.types import Attempt, CategoryScore, Completion, Decision, Usage

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
DECISION = Decision(
    query="why",
    category="code",
    model="coder",
    score=0.5,
    threshold=0.0,
    confidence=0.9,
    is_fallback=False,
    categories=(CategoryScore("code", 0.5, 0.0),),
    candidates=("coder", "large"),
    strategy="semantic",
    reason="it fits",
    elapsed_ms=1.0,
)
COMPLETION = Completion(
    text="because",
    model="coder",
    deployment="spot",
    upstream_model="gpt-test",
    finish_reason="stop",
    usage=Usage(12, 3),
    latency_ms=81.4,
    attempts=(Attempt("spot", "coder", 81.4, 200),),
    decision=DECISION,
)


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """A provider, and a working folder whose semroute.yaml leads to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_KEY", KEY)
    with FakeProvider() as running:
        place = {"name": "spot", "model": "small", "base_url": running.base_url, "api_key_env": "TEST_KEY"}
        Path("semroute.yaml").write_text(json.dumps({"deployments": [place]}))
        yield running


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["ask", *arguments], input=stdin)


@pytest.mark.slow
def test_the_answer_goes_to_stdout_and_the_rest_to_stderr(provider: FakeProvider) -> None:
    done = run("hello there", "--model", "small")
    assert done.exit_code == 0, done.exception
    assert done.stdout == "hello there\n"
    assert "small · spot (small) · 2 + 2 tokens" in done.stderr
    assert provider.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.slow
def test_json_is_one_object_on_stdout(provider: FakeProvider) -> None:
    done = run("hello", "--model", "small", "--json")
    value = json.loads(done.stdout)
    assert (value["text"], value["model"], value["deployment"]) == ("hello", "small", "spot")
    assert (value["decision"]["strategy"], value["decision"]["candidates"]) == ("pinned", ["small"])
    assert value["attempts"][0]["status"] == 200
    assert done.stderr == ""


def test_a_dash_reads_standard_input(provider: FakeProvider) -> None:
    assert run("-", "--model", "small", stdin="zwei Wörter\n".encode()).stdout == "zwei Wörter\n\n"


@pytest.mark.parametrize(("query", "stdin"), [("  ", None), ("-", b""), ("-", b"\xff\xfe")])
def test_an_empty_or_unreadable_query_is_refused(provider: FakeProvider, query: str, stdin: bytes | None) -> None:
    assert isinstance(run(query, "--model", "small", stdin=stdin).exception, QueryError)
    assert provider.requests == []


def test_a_model_without_a_deployment_is_named(provider: FakeProvider) -> None:
    done = run("hello", "--model", "smal")
    assert isinstance(done.exception, NoDeploymentError)
    assert '"smal"' in str(done.exception)


def test_a_provider_that_echoes_the_key_does_not_bring_it_to_the_screen(provider: FakeProvider) -> None:
    provider.script(fail(401, f"bad key {KEY}"))
    done = run("hello", "--model", "small")
    assert isinstance(done.exception, AuthenticationError)
    assert KEY not in str(done.exception) + done.output


def test_the_line_for_a_person_names_category_model_deployment_tokens_and_time() -> None:
    assert summary(COMPLETION) == "code · coder · spot (gpt-test) · 12 + 3 tokens · 81 ms"


def test_a_decision_comes_along_in_json() -> None:
    value = COMPLETION.to_dict()
    assert json.loads(json.dumps(value)) == value
    assert value["decision"] == DECISION.to_dict()
    assert value["usage"]["input_tokens"] == 12
    assert value["usage"]["output_tokens"] == 3


@pytest.mark.slow
def test_people_count_tiers_from_1_and_programs_from_0(
    routing_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with FakeProvider() as provider:
        places = [
            {"name": f"{model}-1", "model": model, "base_url": provider.base_url} for model in ("small", "large", "top")
        ]
        config = {
            "index": str(routing_index), "deployments": places, "strategies": ["rules"],
            "cascade": {"tiers": ["small", "large", "top"]}, "log": {"enabled": True},
        }  # fmt: skip
        Path("semroute.yaml").write_text(json.dumps(config))
        no, yes = answer("I'm sorry, but I can't help with that."), answer("Eight minutes in boiling water.")
        provider.script(no, yes, no, yes)
        shown = run("how long do I boil an egg")
        told = json.loads(run("how long do I boil an egg", "--json").stdout)
    assert "  tier 1 of 3, small: rejected" in shown.stderr
    assert "  tier 2 of 3, large: accepted" in shown.stderr
    assert " · tier 2 of 3 · large · " in shown.stderr
    assert (told["tier"], [trial["tier"] for trial in told["trials"]]) == (1, [0, 1])
    logged = CliRunner().invoke(cli, ["log", "tail"]).stdout
    assert logged.count("large^2") == 2
    kept = json.loads(CliRunner().invoke(cli, ["log", "tail", "--json"]).stdout.splitlines()[0])
    assert (kept["tier"], [trial["tier"] for trial in kept["trials"]]) == (1, [0, 1])

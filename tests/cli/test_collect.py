from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.runner import run

from semroute.cli.console import print_warning
from semroute.cli.main import main
from semroute.outcomes.files import read_outcomes
from semroute.testing import FakeProvider, RecordedRequest, answer, fail, hang
from semroute.workflows.collect import queries_of_file

PRICE = {"input": 100, "output": 100}


def configure(provider: FakeProvider, **more: Any) -> None:
    deployments = [
        {"name": f"{model}-1", "model": model, "upstream_model": model, "base_url": provider.base_url, "price": PRICE}
        for model in ("small", "large")
    ]
    Path("semroute.yaml").write_text(yaml.safe_dump({"deployments": deployments, "retries": {"same_place": 0}, **more}))


def queries(n: int = 5) -> str:
    Path("queries.jsonl").write_text("".join(json.dumps({"query": f"query {i}", "task": "t"}) + "\n" for i in range(n)))
    return "queries.jsonl"


def collect(*more: str) -> dict[str, Any]:
    done = run("collect", "--out", "out.jsonl", "--queries", queries(), "--max-usd", "10", "--json", *more)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def test_every_model_is_asked_every_query_and_the_answers_wait_to_be_judged(provider: FakeProvider) -> None:
    configure(provider)
    told = collect()
    assert (told["asked"], told["models"], told["budget_is_spent"]) == (5, ["small", "large"], False)
    table = read_outcomes("out.jsonl", keep_responses=True)
    assert len(table) == 5
    assert table.models == ("small", "large")
    assert table.tasks == ["t"] * 5
    assert table.responses is not None
    assert all(all(answers) for answers in table.responses)
    assert not table.is_complete.any(), "nobody has judged them"
    assert told["spent_usd"] == pytest.approx(float(table.cost.sum()), rel=1e-4)
    assert sorted(str(one.body["model"]) for one in provider.requests) == ["large"] * 5 + ["small"] * 5
    assert {one.body["max_tokens"] for one in provider.requests} == {1024}


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_what_is_left(provider: FakeProvider) -> None:
    configure(provider)
    assert collect("--sample", "2")["asked"] == 2
    asked = len(provider.requests)
    again = collect()
    assert (again["asked"], again["known_before"]) == (3, 2)
    assert len(provider.requests) == asked + 6
    assert collect()["asked"] == 0


@pytest.mark.slow
def test_the_budget_is_never_passed(provider: FakeProvider) -> None:
    configure(provider)
    # The longest answers to a query cost 2 models x (about 10 + 100 tokens) x 100 USD a million = 0.022 USD.
    told = collect("--max-usd", "0.0235", "--max-tokens", "100", "--together", "1")
    assert told["budget_is_spent"], told
    assert 0 < told["spent_usd"] <= 0.0235
    assert told["asked"] < 5
    shown = run("collect", "--out", "new.jsonl", "--queries", queries(), "--max-usd", "0.001")
    said = "the rest of USD 0.001 would not cover the longest answers to the next query (USD 0.2"
    assert said in shown.stderr
    assert "5 queries were not asked" in shown.stderr
    assert "is spent" not in shown.stderr


@pytest.mark.slow
def test_the_same_queries_are_asked_within_a_budget_however_many_are_asked_at_a_time(provider: FakeProvider) -> None:
    configure(provider)
    # One query's longest answers (0.022 USD) fit beside each other twice, and their real price is a fraction of that.
    provider.always(answer("well", input_tokens=5, output_tokens=10))
    budget = ("--max-usd", "0.05", "--max-tokens", "100", "--json")
    found = {}
    for together in ("1", "4", "20"):
        file = f"together-{together}.jsonl"
        told = json.loads(
            run("collect", "--out", file, "--queries", queries(40), *budget, "--together", together).stdout
        )
        found[together] = set(read_outcomes(file).queries)
        assert told["asked"] == len(found[together])
        assert told["spent_usd"] <= 0.05
    assert 5 < len(found["1"]) < 40
    assert found["1"] == found["4"] == found["20"]


def test_a_budget_that_nothing_is_left_of_is_called_spent(provider: FakeProvider) -> None:
    configure(provider)
    # What the provider counts is more than what was reckoned with, so that the first query takes all.
    provider.always(answer("well", input_tokens=100_000, output_tokens=10))
    shown = run("collect", "--out", "out.jsonl", "--queries", queries(), "--max-usd", "1", "--together", "1")
    assert "the budget of USD 1 is spent: 4 queries were not asked" in shown.stderr


@pytest.mark.slow
def test_a_model_that_fails_is_reported_left_out_of_the_row_and_asked_again_next_time(provider: FakeProvider) -> None:
    configure(provider)

    def reply(request: RecordedRequest) -> Any:
        return fail(400) if request.body["model"] == "large" else answer("fine")

    provider.always(reply)
    done = run("collect", "--out", "out.jsonl", "--queries", queries(2), "--max-usd", "10")
    assert done.exit_code == 0
    assert "large: 2 queries were not answered" in " ".join(done.stderr.split())
    assert read_outcomes("out.jsonl").models == ("small",)
    provider.always(None)
    run("collect", "--out", "out.jsonl", "--queries", queries(2), "--max-usd", "10")
    assert set(read_outcomes("out.jsonl").models) == {"small", "large"}


def whole(n: int) -> None:
    """The file holds ``n`` rows with both models, each answer once."""
    table = read_outcomes("out.jsonl", keep_responses=True)
    assert (len(table), set(table.models), table.findings) == (n, {"small", "large"}, ())
    assert all(all(answers) for answers in table.responses or [])


@pytest.mark.slow
def test_only_the_models_whose_answer_lacks_are_asked(provider: FakeProvider) -> None:
    configure(provider)
    assert collect("--models", "small")["answers"] == 5
    asked = len(provider.requests)
    told = collect()
    assert [one.body["model"] for one in provider.requests[asked:]] == ["large"] * 5
    assert (told["asked"], told["answers"], told["known_before"]) == (5, 5, 0)
    whole(5)
    assert collect()["known_before"] == 5


@pytest.mark.slow
def test_a_model_that_failed_is_asked_again_alone(provider: FakeProvider) -> None:
    configure(provider)

    def reply(request: RecordedRequest) -> Any:
        return fail(400) if request.body["model"] == "large" else answer("fine")

    provider.always(reply)
    collect()
    provider.always(None)
    asked = len(provider.requests)
    collect()
    assert {one.body["model"] for one in provider.requests[asked:]} == {"large"}
    whole(5)


@pytest.mark.slow
def test_the_budget_counts_what_is_asked_alone(provider: FakeProvider) -> None:
    configure(provider)
    collect("--models", "small", "--max-tokens", "100")
    # The longest answer of one model costs about 0.011 USD, of both 0.022.
    told = collect("--max-usd", "0.0125", "--max-tokens", "100", "--together", "1")
    assert told["answers"] > 0
    assert told["spent_usd"] <= 0.0125


@pytest.mark.slow
@pytest.mark.parametrize("models", ["small,large", "large"])
def test_an_answer_that_lacked_joins_its_row_though_the_task_has_another_name_by_now(
    provider: FakeProvider, models: str
) -> None:
    configure(provider)
    collect("--models", "small")
    Path("renamed.jsonl").write_text(Path("queries.jsonl").read_text().replace('"t"', '"renamed"'))
    run("collect", "--out", "out.jsonl", "--queries", "renamed.jsonl", "--max-usd", "10", "--models", models)
    whole(5)
    assert set(read_outcomes("out.jsonl").tasks) == {"t"}


@pytest.mark.slow
def test_queries_of_the_log_are_asked_once_each(provider: FakeProvider, routing_index: Path) -> None:
    configure(provider, index=str(routing_index), fallback={"models": ["large"]})
    for query in ("how long should I boil potatoes", "how long should I boil potatoes", "hello there"):
        run("route", query)
    done = run("collect", "--out", "out.jsonl", "--max-usd", "10", "--models", "large", "--json")
    assert json.loads(done.stdout)["asked"] == 2
    assert "cooking" in read_outcomes("out.jsonl").tasks


def test_what_cannot_be_done_is_said(provider: FakeProvider, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str, code: int = 2) -> str:
        assert main(["collect", "--out", "out.jsonl", "--max-usd", "1", *arguments]) == code
        return capsys.readouterr().err

    assert "names no deployments" in error("--queries", queries())
    configure(provider)
    assert 'no deployment serves "huge"' in error("--queries", queries(), "--models", "huge")
    assert "there is no log yet" in error(code=1)
    Path("out.jsonl").write_text("not json\n")
    assert "out.jsonl:1" in error("--queries", queries())
    Path("out.jsonl").unlink()
    Path("semroute.yaml").write_text(
        yaml.safe_dump(
            {
                "deployments": [
                    {"name": "m", "model": "m", "upstream_model": "unheard-of-9", "base_url": provider.base_url}
                ]
            }
        )
    )
    assert 'the price of "m" is not known' in error("--queries", queries())
    assert not Path("out.jsonl").exists()


@pytest.mark.slow
def test_two_runs_on_one_file_do_not_both_pay(provider: FakeProvider, capsys: pytest.CaptureFixture[str]) -> None:
    configure(provider)
    command = [sys.executable, "-m", "semroute.cli.main", "collect", "--out", "out.jsonl", "--queries", queries()]
    provider.script(*(hang(1.0) for _ in range(10)))
    first = subprocess.Popen([*command, "--max-usd", "10"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not provider.requests and first.poll() is None:
        time.sleep(0.05)
    assert main(["collect", "--out", "out.jsonl", "--queries", "queries.jsonl", "--max-usd", "10"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"out.jsonl: process {first.pid} (main.py collect) is adding to it" in said
    Path("link.jsonl").symlink_to("out.jsonl")
    assert main(["label", "queries.jsonl", "--out", "link.jsonl", "--judge", "large"]) == 2
    assert f"process {first.pid}" in capsys.readouterr().err
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert len(provider.requests) == 10
    assert len(Path("out.jsonl").read_text().splitlines()) == 5
    assert collect()["asked"] == 0


@pytest.mark.slow
def test_a_killed_run_leaves_no_lock(provider: FakeProvider) -> None:
    configure(provider)
    command = [sys.executable, "-m", "semroute.cli.main", "collect", "--out", "out.jsonl", "--queries", queries()]
    provider.script(*(hang(30.0) for _ in range(8)))
    first = subprocess.Popen([*command, "--max-usd", "10"])
    while not provider.requests and first.poll() is None:
        time.sleep(0.05)
    first.kill()
    first.wait(60)
    assert collect("--sample", "1")["asked"] == 1


def test_a_row_without_text_is_named_and_the_others_are_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "blank.jsonl"
    path.write_text('{"query": "a"}\n{"query": " "}\n{"query": []}\n{"query": "b"}\n')
    assert [asked.text for asked in queries_of_file(path, print_warning)] == ["a", "b"]
    err = capsys.readouterr().err
    assert f"warning: {path}:2: the query is empty" in err
    assert f"warning: {path}:3: " in err

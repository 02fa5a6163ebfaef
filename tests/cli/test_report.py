from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.runner import run

from semroute.cli.main import main
from semroute.testing import FakeProvider, answer

KEY = "sk-proj-a1b2c3d4e5f6g7h8"


@pytest.fixture
def asked(routing_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two queries through a cascade that is really called: one answered by the first tier, one by the second."""
    monkeypatch.setenv("THE_KEY", KEY)
    with FakeProvider(key=KEY) as provider:
        place = {"base_url": provider.base_url, "api_key_env": "THE_KEY"}
        config: dict[str, Any] = {
            "deployments": [
                {"name": "small-1", "model": "small", "price": {"input": 1.0, "output": 2.0}, **place},
                {"name": "large-1", "model": "large", "price": {"input": 10.0, "output": 20.0}, **place},
            ],
            "cascade": {"tiers": ["small", "large"]},
            "categories": {"cooking": {"models": ["small", "large"]}},
            "index": str(routing_index),
        }
        Path("semroute.yaml").write_text(yaml.safe_dump(config))
        usage = {"input_tokens": 1000, "output_tokens": 100}
        provider.script(
            answer("Chop the carrots and simmer them.", **usage),
            answer("I'm sorry, but I can't help with that.", **usage),
            answer("Eight minutes in boiling water.", **usage),
        )
        assert main(["ask", "recipe for carrot soup"]) == 0
        assert main(["ask", "how long do I boil an egg"]) == 0


@pytest.mark.usefixtures("asked")
def test_the_report_charges_what_the_providers_charged() -> None:
    told = json.loads(run("report", "--json").stdout)
    small, large = 0.0012, 0.012
    assert told["saving"]["usd"] == pytest.approx(2 * small + large)
    assert told["saving"]["baseline_usd"] == pytest.approx(2 * large)
    assert told["escalation"] | {"low": 0, "high": 0} == {"hits": 1, "n": 2, "value": 0.5, "low": 0, "high": 0}
    assert {one["name"]: one["spent"]["calls"] for one in told["purposes"]} == {"answers": 2, "rejected answers": 1}
    assert told["checks"]["format"]["hits"] == 2


@pytest.mark.usefixtures("asked")
def test_the_tables_fit_a_terminal_and_split_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("report")
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for words in ("large alone", "not escalated", "rejected answers", "a guess: less than a day"):
        assert words in shown.stdout
    assert KEY not in shown.output


@pytest.mark.usefixtures("asked")
def test_the_costs_of_efforts_are_shown_where_a_tier_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "reasoning effort" not in run("report").stdout
    config = yaml.safe_load(Path("semroute.yaml").read_text())
    with FakeProvider(key=KEY) as provider:
        provider.script(answer("I'm sorry, but I can't help with that."), answer("Eight minutes."))
        config["deployments"] = [{**one, "base_url": provider.base_url} for one in config["deployments"]]
        config["cascade"] = {"tiers": [{"use": "small", "effort": "low"}, {"use": "small", "effort": "high"}]}
        Path("semroute.yaml").write_text(yaml.safe_dump(config))
        assert main(["ask", "how long do I boil an egg"]) == 0
    shown = run("report")
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for words in ("reasoning effort", "small at low effort", "small at high effort", "small without an effort"):
        assert words in shown.stdout
    efforts = json.loads(run("report", "--json").stdout)["efforts"]
    assert {one["name"]: one["spent"]["calls"] for one in efforts} == {
        "small at low effort": 1, "small at high effort": 1, "small without an effort": 2,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("asked")
def test_a_page_is_written_and_a_wrong_folder_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--html", "report.html"]) == 0
    assert "carrot" not in Path("report.html").read_text("utf-8"), "queries are not in a report"
    assert main(["report", "--html", "nowhere/report.html"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("asked")
def test_times_and_categories_choose_outcomes() -> None:
    assert json.loads(run("report", "--json", "--until", "2020-01-01").stdout)["queries"] == 0
    assert "no outcomes of that time" in run("report", "--until", "2020-01-01").stderr
    assert json.loads(run("report", "--json", "--category", "no such").stdout)["queries"] == 0
    assert json.loads(run("report", "--json", "--since", "1h").stdout)["queries"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("asked")
def test_advice_of_two_queries_is_that_they_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("advise")
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "2 queries are too few to say" in " ".join(shown.stdout.split())
    (told,) = json.loads(run("advise", "--json").stdout)["categories"]
    assert told["break_even"] == pytest.approx(0.9)
    assert [tier["usd"] for tier in told["tiers"]] == pytest.approx([0.0012, 0.012])


@pytest.mark.usefixtures("asked")
def test_without_a_cascade_there_is_nothing_to_advise_on() -> None:
    config = yaml.safe_load(Path("semroute.yaml").read_text())
    del config["cascade"]
    Path("semroute.yaml").write_text(yaml.safe_dump(config))
    assert "nothing to advise on" in run("advise").stderr


def test_without_a_log_the_error_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) != 0
    assert "log" in capsys.readouterr().err
    assert main(["advise"]) != 0

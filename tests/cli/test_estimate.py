from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner, Result

from semroute.cli.main import cli, main
from semroute.router import Router
from semroute.testing import FakeProvider, answer
from semroute.workflows.estimate import OUTPUT_TOKENS

CODE, COOKING = "fix the python loop", "boil a egg"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100}
PRICES = ("--price", "small=1/2", "--price", "large=10/40")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, work = tmp_path_factory.mktemp("tiny"), tmp_path_factory.mktemp("work")
    return tiny.index(made / "index", work).folder


@pytest.fixture(autouse=True)
def _config(index: Path) -> None:
    write_config({})


def write_config(more: dict[str, Any]) -> None:
    own = {"categories": {"code": {"models": ["large"]}, "cooking": {"models": ["small"]}}}
    Path("semroute.yaml").write_text(json.dumps({**own, **more}))


def write_rows(*rows: dict[str, Any], name: str = "r.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def run(index: Path, *arguments: str, stdin: bytes | None = None, columns: int = 80) -> Result:
    return CliRunner().invoke(
        cli, ["estimate", *arguments, "--index", str(index)], input=stdin, env={"COLUMNS": str(columns)}
    )


def told(index: Path, *arguments: str, stdin: bytes | None = None) -> dict[str, Any]:
    done = run(index, *arguments, "--json", stdin=stdin)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_bill_of_a_month_by_hand(index: Path) -> None:
    path = write_rows({"query": CODE, "usage": USAGE}, {"query": COOKING, "usage": USAGE})
    found = told(index, path, *PRICES, "--per-month", "2000000", "--cascade", "small,large", "--escalation", "10%-40%")
    assert found["now"]["usd_a_month"] == pytest.approx(2e6 * 0.014)
    assert found["routed"]["usd_a_month"] == pytest.approx(1e6 * 0.014 + 1e6 * 0.0012)
    assert found["cascade"]["low"]["usd_a_month"] == pytest.approx(2e6 * 0.0012 + 0.1 * 2e6 * 0.014)
    assert found["cascade"]["high"]["usd_a_month"] == pytest.approx(2e6 * 0.0012 + 0.4 * 2e6 * 0.014)
    assert {one["model"]: one["share"] for one in found["models"]} == {"large": 0.5, "small": 0.5}
    assert found["assumptions"]["now"] == "large"
    lines = run(index, path, *PRICES, "--per-month", "2000000", "--cascade", "small,large").stdout.splitlines()
    assert any(line.split() == ["now:", "large", "alone", "28,000"] for line in lines), lines
    assert any(line.split() == ["routed", "15,200", "45.7%"] for line in lines)
    assert any("5,200 to 13,600" in line and "51.4% to 81.4%" in line for line in lines)


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_keep_within_the_terminal_with_headers_and_whole_numbers(index: Path, columns: int) -> None:
    long = "provider/a-model-with-a-rather-long-name-20261101"
    path = write_rows({"query": CODE, "model": long, "count": 123456}, {"query": COOKING, "count": 7654321})
    done = run(
        index, path, *PRICES, "--price", f"{long}=1234.5/5678.9", "--per-month", "900000000", "--cascade",
        "small,large", columns=columns,
    )  # fmt: skip
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert sum("USD a month" in " ".join(pair) for pair in pairwise(lines)) >= 3
    for number in ("7,654,321", "123,456", "1234.50", "5678.90"):
        assert number in done.stdout
    assert "…" not in done.stdout


def test_without_prices_the_example_pool_is_named_as_an_assumption(index: Path) -> None:
    path = write_rows({"query": CODE}, {"query": COOKING})
    done = run(index, path)
    words = " ".join(done.stdout.split())
    for said in ("semroute init writes", "large = ", "small = ", "--price NAME=INPUT/OUTPUT", "300 (--output-tokens)"):
        assert said in words, words
    assert "USD a month" not in done.stdout
    assert "--per-month N" in words


def test_the_model_of_today_is_the_requests_the_options_or_the_strongest(index: Path) -> None:
    path = write_rows({"query": CODE, "usage": USAGE, "model": "small"}, {"query": CODE, "usage": USAGE})
    assert [one["model"] for one in told(index, path, *PRICES)["now"]["models"]] == ["large", "small"]
    given = told(index, path, *PRICES, "--now", "gpt-x", "--price", "gpt-x=5/20")
    assert {one["model"]: one["usd"] for one in given["now"]["models"]} == {
        "gpt-x": pytest.approx(0.007),
        "small": pytest.approx(0.0012),
    }
    assert "the 50.0% that name no model go to gpt-x (--now)" in given["assumed"][0]


def test_rows_that_cannot_be_read_are_named_counted_and_no_reason_to_fail(index: Path) -> None:
    Path("r.jsonl").write_text('{"query": "boil"}\n' + "no json\n" * 7 + '{"query": ""}\n')
    done = run(index, "r.jsonl", *PRICES)
    assert done.exit_code == 0
    assert "r.jsonl:2: malformed JSON" in done.stderr
    assert "3 more rows cannot be read" in done.stderr
    found = told(index, "r.jsonl", *PRICES)
    assert (found["rows"], found["unreadable"]["rows"], len(found["unreadable"]["first"])) == (1, 8, 5)


@pytest.mark.parametrize("content", ["", "no json\n", '{"words": "a"}\n'])
def test_nothing_to_estimate_is_an_error(index: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.jsonl").write_text(content)
    assert main(["estimate", "r.jsonl", "--index", str(index), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: r.jsonl:")
    assert main(["estimate", "none.jsonl", "--index", str(index)]) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--price", "small"], "write NAME=INPUT/OUTPUT"),
        (["--price", "small=1/-2"], "write NAME=INPUT/OUTPUT"),
        (["--price", "small=nan/2"], "write NAME=INPUT/OUTPUT"),
        (["--price", "=1/2"], "write NAME=INPUT/OUTPUT"),
        (["--escalation", "20"], "write a share such as 20%"),
        (["--cascade", "small"], "needs two tiers"),
        (["--per-month", "0"], "--per-month"),
        (["--per-month", "nan"], "--per-month"),
        (["--per-month", "inf"], "--per-month"),
        (["--prices", "none.yaml"], "none.yaml"),
        (["--encoding", "klingon"], "klingon"),
    ],
)
def test_options_that_cannot_be_used_say_how_to_write_them(
    index: Path, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows({"query": CODE})
    assert main(["estimate", path, *arguments, "--index", str(index)]) == 2
    assert problem in " ".join(capsys.readouterr().err.split())


def test_unknown_models_and_unused_prices_are_named_with_what_was_meant(index: Path) -> None:
    path = write_rows({"query": CODE, "model": "gpt-4oo"}, {"query": CODE})
    done = run(index, path, *PRICES, "--price", "smal=1/2")
    assert 'no price is known of "gpt-4oo" (1 request): did you mean "gpt-4o"?' in done.stderr
    assert 'no request goes to "smal"; did you mean "small"?' in done.stderr
    assert "the bills are of 1 of 2 requests" in done.stderr


def test_standard_input_and_files_of_prices(index: Path) -> None:
    Path("prices.yaml").write_text("small: [1, 2]\nlarge: [100, 400]\n")
    found = told(
        index, "-", "--prices", "prices.yaml", "--price", "large=10/40", stdin=b"boil a egg\nfix the python loop\n"
    )
    assert (found["rows"], {one["model"]: one["input_price"] for one in found["models"]}) == (
        2,
        {"large": 10, "small": 1},
    )


@pytest.mark.slow
def test_no_model_is_called_though_a_judge_would_be(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "k")
    with FakeProvider() as provider:
        place = {"base_url": provider.base_url, "api_key_env": "THE_KEY", "price": {"input": 1, "output": 2}}
        deployments = [{"name": f"at {name}", "model": name, **place} for name in ("small", "large")]
        write_config(
            {"deployments": deployments, "judge": {"model": "small"}, "strategies": ["judge"], "log": {"enabled": True}}
        )
        path = write_rows({"query": CODE})
        done = run(index, path)
        assert done.exit_code == 0, done.output
        assert "the judge is not asked" in done.stderr
        assert provider.requests == []
        # The same configuration does ask where queries are routed.
        assert main(["route", CODE, "--index", str(index)]) == 0
        assert len(provider.requests) == 1


def test_the_length_that_help_names_is_the_one_that_is_assumed(index: Path) -> None:
    assert f"[default: {OUTPUT_TOKENS};" in run(index, "--help").stdout
    assert told(index, write_rows({"query": CODE}))["tokens"]["output"] == OUTPUT_TOKENS


def test_an_estimate_is_not_logged(index: Path) -> None:
    run(index, write_rows({"query": CODE}))
    assert not Path(".semroute").exists()


@pytest.fixture
def climbed(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A log of 40 queries up a cascade that was really called, 10 of them escalated."""
    monkeypatch.setenv("THE_KEY", "k")
    with FakeProvider() as provider:
        place = {"base_url": provider.base_url, "api_key_env": "THE_KEY", "price": {"input": 1, "output": 2}}
        write_config(
            {
                "deployments": [{"name": f"at {name}", "model": name, **place} for name in ("small", "large")],
                "categories": {name: {"models": ["small", "large"]} for name in ("code", "cooking")},
                "cascade": {"tiers": ["small", "large"]},
            }
        )
        refusal, good = answer("I'm sorry, but I can't help with that."), answer("Eight minutes in boiling water.")
        provider.script(*([refusal, good] * 10), *([good] * 30))
        router = Router.load(index, log=True)
        for _ in range(40):
            router.complete(COOKING)
        router.close()
        yield index


@pytest.mark.slow
def test_the_escalation_rate_is_the_logs_where_it_has_one(climbed: Path) -> None:
    path = write_rows({"query": COOKING})
    rates = told(climbed, path)["cascade"]["escalation"]
    assert (rates["expected"], rates["source"]) == (0.25, "the log, 40 queries")
    assert 0.1 < rates["low"] < 0.25 < rates["high"] < 0.45
    assert told(climbed, path, "--escalation", "50%")["cascade"]["escalation"]["expected"] == 0.5
    # How often an answer is accepted does not depend on what would come after it, but on whose it is.
    other = told(climbed, path, "--cascade", "small,gpt-4o")["cascade"]["escalation"]
    assert (other["expected"], other["source"]) == (0.25, "the log, 40 queries")
    assert told(climbed, path, "--cascade", "large,small")["cascade"]["escalation"]["source"] == "assumed"


@pytest.mark.slow
def test_a_file_that_is_routed_ends_with_its_bill_on_standard_error(index: Path) -> None:
    path = write_rows({"query": CODE}, {"query": COOKING}, {"query": COOKING})
    for more in ([], ["--json"]):
        done = CliRunner().invoke(cli, ["route", "--file", path, "--index", str(index), *more], env={"COLUMNS": "80"})
        assert done.exit_code == 0
        assert len(done.stdout.splitlines()) == 3
        for said in ("3 of r.jsonl", "66.7%", "now: large alone", "routed", "semroute estimate r.jsonl"):
            assert said in done.stderr
        assert max(map(len, done.stderr.splitlines())) <= 80
    silent = CliRunner().invoke(cli, ["route", "--file", path, "--index", str(index), "--no-summary"])
    assert silent.stderr == ""


@pytest.mark.slow
def test_the_bill_of_a_routed_file_is_that_of_estimate(index: Path) -> None:
    path = write_rows({"query": CODE}, {"query": [{"role": "user", "content": COOKING}]})
    routed = CliRunner().invoke(cli, ["route", "--file", path, "--index", str(index)], env={"COLUMNS": "80"})
    estimated = run(index, path).stdout.splitlines()
    bill = estimated[: next(place for place, line in enumerate(estimated) if line.startswith("*"))]
    assert "\n".join(line.rstrip() for line in bill).strip() in "\n".join(
        line.rstrip() for line in routed.stderr.splitlines()
    )


@pytest.mark.slow
def test_the_bill_follows_the_error_of_rows_that_cannot_be_routed(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("r.jsonl").write_text('{"query": "boil"}\nno json\n{"query": "fix"}\n')
    assert main(["route", "--file", "r.jsonl", "--index", str(index), "--json"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.startswith("error: r.jsonl:2: ")
    assert "2 of r.jsonl" in err
    Path("r.jsonl").write_bytes(b'{"query": "boil"}\n{"query": "\xff"}\n{"query": "fix"}\n')
    assert main(["route", "--file", "r.jsonl", "--index", str(index), "--json"]) == 2
    out, err = capsys.readouterr()
    assert "is not UTF-8" in err
    assert "1 of r.jsonl" in err
    Path("r.jsonl").write_text("no json\n")
    assert main(["route", "--file", "r.jsonl", "--index", str(index)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_pipe_that_is_routed_is_answered_before_the_price_list_is_read(index: Path) -> None:
    command = [sys.executable, "-m", "semroute.cli.main", "route", "--file", "-", "--json", "--index", str(index)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for query in (CODE, COOKING):
        process.stdin.write(json.dumps({"query": query}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["query"] == query
    rest, err = process.communicate()
    assert (rest, process.returncode) == ("", 0)
    assert "2 of standard input" in err


@pytest.mark.slow
def test_names_of_models_do_not_command_the_terminal(index: Path) -> None:
    hostile = "gpt\x1b]52;c;bmFnCg==\x07\x9b\u202e"
    done = run(index, write_rows({"query": CODE, "model": hostile}, {"query": COOKING}))
    assert done.exit_code == 0
    assert not set(done.stdout + done.stderr) & set("\x1b\x07\x9b\u202e")
    assert "gpt^[]52" in done.stdout

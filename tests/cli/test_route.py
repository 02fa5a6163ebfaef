from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semroute.cli.main import cli, main
from semroute.router import Router

COMMAND = [sys.executable, "-m", "semroute.cli.main"]
KEYS = {
    "query", "category", "model", "score", "confidence", "threshold", "is_fallback", "categories", "candidates",
    "strategy", "reason", "elapsed_ms", "steps_ms", "opinions",
}  # fmt: skip


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["route", *arguments], input=stdin, env={"COLUMNS": "100"})


def test_a_query_is_explained_with_its_nearest_examples(routing_index: Path) -> None:
    done = run("how long to boil eggs", "--index", str(routing_index))
    assert done.exit_code == 0, done.exception
    for words in ("cooking", "small", "≥ 0.200", "runner-up", "confidence", "encode", '"how long do I boil an egg"'):
        assert words in done.stdout


def test_a_rejected_query_says_what_was_closest(routing_index: Path) -> None:
    done = run("zxqj", "--index", str(routing_index))
    assert "no category: fallback" in done.stdout
    assert "< 0.200" in done.stdout


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_the_panel_keeps_within_the_terminal(routing_index: Path, columns: str) -> None:
    query = "boil " + "egg " * 100
    done = CliRunner().invoke(cli, ["route", query, "--index", str(routing_index)], env={"COLUMNS": columns})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert any("0.2" in line and "law" not in line for line in lines)


def test_json_has_the_decision_and_the_nearest_examples(routing_index: Path) -> None:
    value = json.loads(run("appeal a court ruling", "--index", str(routing_index), "--json").stdout)
    assert set(value) == KEYS | {"nearest"}
    assert (value["category"], value["model"]) == ("law", "large")
    assert value["categories"][0]["category"] == "law"
    assert value["nearest"][0]["query"] == "how do I appeal a court ruling"


@pytest.mark.parametrize("arguments", [[], ["hello", "--file", "q.jsonl"]])
def test_a_query_or_a_file_but_not_both(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "give either a QUERY or --file FILE" in done.stderr


def test_an_empty_query_is_refused_before_any_index_is_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", " ", "--index", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: the query is empty: give some text to route\n"


def test_a_missing_and_a_damaged_index_are_errors_without_traceback(
    own_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["route", "hello", "--index", str(own_index / "none")]) == 1
    assert "no index here" in capsys.readouterr().err
    vectors = next(own_index.glob("vectors-*"))
    vectors.unlink()
    vectors.write_bytes(b"other")
    assert main(["route", "hello", "--index", str(own_index)]) == 1
    err = capsys.readouterr().err
    assert "altered or damaged" in err
    assert err.count("\n") == 1


def test_a_file_gives_one_json_object_a_line_in_its_order(routing_index: Path, tmp_path: Path) -> None:
    queries = [f"boil {number} eggs" for number in range(150)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"query": query}) + "\n" for query in queries))
    done = run("--file", str(tmp_path / "q.jsonl"), "--index", str(routing_index), "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["query"] for row in rows] == queries
    assert set(rows[0]) == KEYS


def test_a_file_for_people_is_one_line_a_row(routing_index: Path, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("boil an egg\nzxqj\n")
    lines = run("--file", str(tmp_path / "q.txt"), "--index", str(routing_index)).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["cooking", "small"], ["(fallback)", "large"]]


@pytest.mark.parametrize("bad", ["not json", '{"text": "x"}', '{"query": 3}'])
def test_a_bad_line_is_named_after_the_rows_before_it(
    routing_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"query": "boil an egg"}\n' + bad + '\n{"query": "never"}\n')
    assert main(["route", "--file", str(path), "--index", str(routing_index), "--json"]) == 2
    out, err = capsys.readouterr()
    assert [json.loads(line)["query"] for line in out.splitlines()] == ["boil an egg"]
    assert err.startswith(f"error: {path}:2: ")


@pytest.mark.parametrize("bare", ['{"query": ""}', '{"query": " \\n"}', '{"query": []}'])
def test_a_row_without_text_is_named_and_does_not_end_the_run(routing_index: Path, tmp_path: Path, bare: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"query": "boil an egg"}\n' + bare + '\n{"query": "knead bread"}\n')
    done = run("--file", str(path), "--index", str(routing_index), "--json")
    assert done.exit_code == 0, done.exception
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("query") for row in rows] == ["boil an egg", None, "knead bread"]
    assert (rows[1]["line"], rows[1]["error"].startswith(f"{path}:2: ")) == (2, True)
    assert f"warning: {path}:2: " in done.stderr
    people = run("--file", str(path), "--index", str(routing_index))
    assert [line.split()[0] for line in people.stdout.splitlines()] == ["cooking", "cooking"]


def test_a_pipe_is_answered_line_by_line_and_not_at_its_end(routing_index: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "route", "--file", "-", "--json", "--index", str(routing_index)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    messages = [{"role": "user", "content": "how long do I boil an egg"}]
    for query in ("fix this python traceback", messages, "half \ud800 of a pair"):
        process.stdin.write(json.dumps({"query": query}) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert answer["query"] == (query if isinstance(query, str) else "how long do I boil an egg")
    rest, _ = process.communicate()
    assert (rest, process.returncode) == ("", 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1).filter(lambda text: text.replace("\0", "").strip()))
def test_any_text_is_one_valid_json_line_and_one_plain_line(
    routing_index: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    router = Router.load(routing_index)
    monkeypatch.setattr(Router, "load", lambda *arguments, **options: router)
    row = (json.dumps({"query": text}) + "\n").encode()
    done = run("--file", "-", "--json", stdin=row)
    (line,) = done.stdout.removesuffix("\n").split("\n")
    assert json.loads(line)["query"] == text
    (line,) = run("--file", "-", stdin=row).stdout.removesuffix("\n").split("\n")
    assert line.isprintable()


def test_rules_are_shown_for_the_rows_after_one_without_text(routing_index: Path, tmp_path: Path) -> None:
    path, config = tmp_path / "q.jsonl", tmp_path / "c.yaml"
    path.write_text('{"query": "boil an egg"}\n{"query": ""}\n{"query": "bake"}\n')
    config.write_text("rules: [{name: eggs, when: {keywords: [egg]}, category: cooking}]\n")
    arguments = ["rules", "test", "--file", str(path), "--index", str(routing_index), "--config", str(config)]
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.exception
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("query", row.get("line")) for row in rows] == ["boil an egg", 2, "bake"]

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
from semroute.text.normalise import is_blank

COMMAND = [sys.executable, "-m", "semroute.cli.main"]
KEYS = {
    "query", "category", "model", "score", "confidence", "threshold", "is_fallback", "categories", "candidates",
    "cascade", "strategy", "reason", "elapsed_ms", "steps_ms", "opinions",
}  # fmt: skip


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["route", *arguments], input=stdin, env={"COLUMNS": "100"})


@pytest.mark.slow
def test_a_query_is_explained_with_its_nearest_examples(routing_index: Path) -> None:
    done = run("how long to boil eggs", "--index", str(routing_index))
    assert done.exit_code == 0, done.exception
    for words in ("cooking", "small", "≥ 0.200", "runner-up", "confidence", "encode", '"how long do I boil an egg"'):
        assert words in done.stdout


@pytest.mark.slow
def test_a_rejected_query_says_what_was_closest(routing_index: Path) -> None:
    done = run("the train to Leeds was late", "--index", str(routing_index))
    assert "no category: fallback" in done.stdout
    assert "< 0.200" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_the_panel_keeps_within_the_terminal(routing_index: Path, columns: str) -> None:
    query = "boil " + "egg " * 100
    done = CliRunner().invoke(cli, ["route", query, "--index", str(routing_index)], env={"COLUMNS": columns})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert any("0.2" in line and "law" not in line for line in lines)


@pytest.mark.slow
def test_a_preference_orders_one_query_and_the_rows_of_a_file(routing_index: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("fix this python traceback\n")
    common = ("--index", str(routing_index), "--json", "--no-log", "--prefer", "best")
    one = json.loads(run("fix this python traceback", *common).stdout)
    (row,) = run("--file", str(rows), "--no-summary", *common).stdout.splitlines()
    # No price is known: the last that the category names is the best.
    for found in (one, json.loads(row)):
        assert (found["strategy"], found["candidates"]) == ("preference", ["large", "coder"])
    assert run("soup", "--prefer", "dear").exit_code == 2


@pytest.mark.slow
def test_json_has_the_decision_and_the_nearest_examples(routing_index: Path) -> None:
    value = json.loads(run("appeal a court ruling", "--index", str(routing_index), "--json").stdout)
    assert set(value) == KEYS | {"nearest"}
    assert (value["category"], value["model"]) == ("law", "large")
    assert value["categories"][0]["category"] == "law"
    assert value["nearest"][0]["query"] == "how do I appeal a court ruling"


@pytest.mark.slow
def test_the_cascade_that_an_answer_would_climb_is_shown(routing_index: Path, tmp_path: Path) -> None:
    path = tmp_path / "semroute.yaml"
    path.write_text(
        "cascade: {tiers: [small, coder, large]}\n"
        "categories: {cooking: {models: [small, large]}, law: {models: [large]}}\n"
    )
    where = ("--index", str(routing_index), "--config", str(path))
    assert json.loads(run("how long to boil eggs", *where, "--json").stdout)["cascade"] == [["small"], ["large"]]
    assert "small, then large" in run("how long to boil eggs", *where).stdout
    assert json.loads(run("appeal a court ruling", *where, "--json").stdout)["cascade"] == []
    assert "not accepted" not in run("appeal a court ruling", *where).stdout


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


@pytest.mark.slow
def test_a_file_gives_one_json_object_a_line_in_its_order(routing_index: Path, tmp_path: Path) -> None:
    queries = [f"boil {number} eggs" for number in range(150)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"query": query}) + "\n" for query in queries))
    done = run("--file", str(tmp_path / "q.jsonl"), "--index", str(routing_index), "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["query"] for row in rows] == queries
    assert set(rows[0]) == KEYS


@pytest.mark.slow
def test_a_file_for_people_is_one_line_a_row(routing_index: Path, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("boil an egg\nthe train to Leeds was late\n")
    lines = run("--file", str(tmp_path / "q.txt"), "--index", str(routing_index)).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["cooking", "small"], ["(fallback)", "large"]]


BAD = ["not json", '{"query": ""}', '{"query": "\\u200b"}', '{"text": "x"}', '{"query": []}', '{"query": 3}', "[1]"]


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD)
def test_a_row_that_cannot_be_routed_has_its_error_in_its_place_and_the_others_their_decisions(
    routing_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"query": "boil an egg"}\n' + bad + '\n{"query": "boil more"}\n')
    assert main(["route", "--file", str(path), "--index", str(routing_index), "--json"]) == 2
    out, err = capsys.readouterr()
    before, failed, after = map(json.loads, out.splitlines())
    assert (before["query"], failed["line"], after["query"]) == ("boil an egg", 2, "boil more")
    assert failed["error"].startswith(f"{path}:2: ")
    assert err.startswith(f"error: {path}:2: ")


@pytest.mark.slow
def test_rows_of_csv_that_cannot_be_routed_have_a_line_each_and_are_counted(
    routing_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "q.csv"
    path.write_text("query,task\nboil an egg,a\ntoo,many,fields\n,blank\nboil more,b\n")
    assert main(["route", "--file", str(path), "--index", str(routing_index)]) == 2
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["cooking", "(error)", "(error)", "cooking"]
    assert "2 of 4 rows cannot be routed" in err


@pytest.mark.slow
def test_a_conversation_without_text_in_a_file_has_a_decision(routing_index: Path, tmp_path: Path) -> None:
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    rows = [{"query": [{"role": "user", "content": image}]}, {"query": "boil an egg"}]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("--file", str(tmp_path / "q.jsonl"), "--index", str(routing_index), "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (done.exit_code, first["is_fallback"], second["category"]) == (0, True, "cooking")
    assert "no text" in first["reason"]
    assert "image_url" in first["reason"]


@pytest.mark.slow
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
    process.stdin.write("no JSON\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["line"] == 1
    for query in ("fix this python traceback", messages, "half \ud800 of a pair"):
        process.stdin.write(json.dumps({"query": query}) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert answer["query"] == (query if isinstance(query, str) else "how long do I boil an egg")
    rest, _ = process.communicate()
    assert (rest, process.returncode) == ("", 2)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1).filter(lambda text: not is_blank(text)))
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


@pytest.mark.slow
def test_rules_are_shown_for_the_rows_after_one_without_text(routing_index: Path, tmp_path: Path) -> None:
    path, config = tmp_path / "q.jsonl", tmp_path / "c.yaml"
    path.write_text('{"query": "boil an egg"}\n{"query": ""}\n{"query": "bake"}\n')
    config.write_text("rules: [{name: eggs, when: {keywords: [egg]}, category: cooking}]\n")
    arguments = ["rules", "test", "--file", str(path), "--index", str(routing_index), "--config", str(config)]
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.exception
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("query", row.get("line")) for row in rows] == ["boil an egg", 2, "bake"]

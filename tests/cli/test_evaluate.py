from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from semroute.cli.evaluate import confusion_table
from semroute.cli.main import cli, main
from semroute.evaluate.routing import Evaluation


@pytest.mark.slow
def test_json_has_the_figures_and_they_agree_with_each_other(routing_index: Path, labelled: Path) -> None:
    done = CliRunner().invoke(cli, ["evaluate", str(labelled), "--index", str(routing_index), "--json"])
    assert done.exit_code == 0, done.exception
    value = json.loads(done.stdout)
    matrix = value["confusion"]
    assert value["n"] == 8
    assert value["accuracy"] == sum(matrix[place][place] for place in range(4)) / 8
    assert value["accuracy_interval"][0] < value["accuracy"] <= value["accuracy_interval"][1]
    assert value["accuracy_in_scope"] == 1.0
    assert value["oos_recall"] == matrix[3][3] / 2
    assert value["false_rejection"] == sum(row[3] for row in matrix[:3]) / 6
    assert 0 <= value["oos_auroc"] <= 1
    assert 0 <= value["ece"] <= 1
    assert {name: row["n"] for name, row in value["per_category"].items()} == {"code": 2, "cooking": 2, "law": 2}
    assert 0 < value["latency_ms"]["p50"] <= value["latency_ms"]["p99"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["80", "120"])
def test_people_see_every_figure_within_the_terminal(routing_index: Path, labelled: Path, columns: str) -> None:
    arguments = ["evaluate", str(labelled), "--index", str(routing_index)]
    out = CliRunner().invoke(cli, arguments, env={"COLUMNS": columns}).stdout
    words = ("95% interval", "accuracy in scope", "AUROC", "false rejection", "ECE", "p50", "p99", "precision")
    for word in words:
        assert word in out
    assert max(map(len, out.splitlines())) <= int(columns)


@pytest.mark.slow
def test_without_out_of_scope_queries_their_figures_are_null(routing_index: Path, tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("query,category\nboil eggs,cooking\n")
    arguments = ["evaluate", str(path), "--index", str(routing_index)]
    value = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert (value["oos_auroc"], value["oos_recall"]) == (None, None)
    assert "AUROC -" in CliRunner().invoke(cli, arguments).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query,category\nhi,tax\n", 'the index has no category "tax"'),
        ("", "no "),
        ("query,category\n", "holds no rows"),
        ("query,category\nhi,code,3\n", ":2: "),
    ],
)
def test_a_labelled_file_that_cannot_be_used_is_named(
    routing_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    path = tmp_path / "l.csv"
    path.write_text(content)
    assert main(["evaluate", str(path), "--index", str(routing_index)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {path}")
    assert message in err


def evaluation(categories: int) -> Evaluation:
    """Every category's queries are right, but for 7 of the first that go to the second."""
    matrix = [[2 if row == column else 0 for column in range(categories + 1)] for row in range(categories + 1)]
    matrix[0][1] = 7
    figures = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "n": 2}
    names = [f"category{number}" for number in range(categories)]
    per_category = dict.fromkeys(names, figures)
    return Evaluation(1, 1, 1, 1, 1, 0, 0, 0, per_category, tuple(map(tuple, matrix)), (0, 1))


def test_few_categories_show_the_matrix_and_many_the_worst_mistakes() -> None:
    def shown(categories: int) -> str:
        console = Console(width=80)
        with console.capture() as captured:
            console.print(confusion_table(evaluation(categories)))
        return captured.get()

    assert [line.split() for line in shown(2).splitlines()][1] == ["1", "category0", "2", "7", "·"]
    rows = [line.split() for line in shown(16).splitlines()]
    assert ["7", "category0", "category1"] in rows
    assert not any("category5" in row for row in rows)


@pytest.mark.slow
def test_the_share_of_the_first_stage_is_shown(staged_index: Path, labelled: Path) -> None:
    def evaluated(*options: str) -> str:
        return CliRunner().invoke(cli, ["evaluate", str(labelled), "--index", str(staged_index), *options]).stdout

    share = json.loads(evaluated("--json"))["answered_first"]
    assert 0 <= share < 1
    assert f"first stage answers {share:.1%} of all queries" in " ".join(evaluated().split())


@pytest.mark.slow
def test_wrong_queries_are_listed_with_where_they_went_and_why(routing_index: Path, tmp_path: Path) -> None:
    path, errors = tmp_path / "l.csv", tmp_path / "errors.jsonl"
    rows = "boil eggs,cooking\nboil an egg,law\n,law\nwrite a sql join,oos\nlate trains,code\nlate trains,None\n"
    path.write_text("query,category\n" + rows)
    arguments = ["evaluate", str(path), "--index", str(routing_index)]
    done = CliRunner().invoke(cli, [*arguments, "--errors", str(errors), "--json"])
    assert done.exit_code == 0, done.exception
    value = json.loads(done.stdout)
    assert value["n"] == 5
    assert [(e["line"], e["query"], e["true"], e["decided"]) for e in value["errors"]] == [
        (3, "boil an egg", "law", "cooking"),
        (5, "write a sql join", None, "code"),
        (6, "late trains", "code", None),
    ]
    first = value["errors"][0]
    assert first["score"] >= first["threshold"] == 0.2
    assert (first["nearest"]["category"], first["nearest"]["query"]) == ("cooking", "how long do I boil an egg")
    assert 0 < first["nearest"]["similarity"] <= 1
    assert [json.loads(line) for line in errors.read_text().splitlines()] == value["errors"]
    assert f"warning: {path}:4: a row without a query" in done.stderr
    shown = CliRunner().invoke(cli, arguments).stdout
    assert "law \u2192 cooking" in shown
    assert "out of scope \u2192 code" in shown
    assert "code \u2192 out of scope" in shown
    assert 'cooking: "how long do I boil an egg"' in shown


def test_a_place_for_errors_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "none.csv", "--errors", str(tmp_path / "no" / "folder.jsonl")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_a_word_for_out_of_scope_is_a_category_where_one_is_called_so(own_index: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    runner.invoke(cli, ["add", "oos", "who won the match", "best running shoes", "--index", str(own_index)])
    path = tmp_path / "l.csv"
    path.write_text("query,category\nwho won the match,oos\nhello there,none\n")
    value = json.loads(runner.invoke(cli, ["evaluate", str(path), "--index", str(own_index), "--json"]).stdout)
    assert value["per_category"]["oos"]["n"] == 1
    assert sum(value["confusion"][-1]) == 1

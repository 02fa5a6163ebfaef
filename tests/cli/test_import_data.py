from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from semroute.cli.main import cli, main
from semroute.data.categories import read_categories
from semroute.errors import DataError


def run(*arguments: str, columns: str = "80") -> Result:
    return CliRunner().invoke(cli, ["import", *arguments], env={"COLUMNS": columns})


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text(
        "ID;Body;Team\n1;my invoice is wrong;Billing / Refunds\n2;charged twice;Billing / Refunds\n"
        "3;will it rain?;R&D\n4;;R&D\n5;charged twice;R&D\n6;what is this;oos\n"
    )
    return path


def test_a_file_becomes_category_files_and_everything_is_said(tickets: Path) -> None:
    done = run(str(tickets), "--text", "Body", "--label", "Team")
    assert done.exit_code == 0, done.exception
    found = {category.name: category.examples for category in read_categories("categories").categories}
    assert found == {
        "Billing / Refunds": ("my invoice is wrong", "charged twice"),
        "R&D": ("will it rain?", "charged twice"),
    }
    assert "fields are separated by a semicolon" in done.stderr
    assert f"{tickets}:5: 1 row left out: the text is blank" in done.stderr
    assert f"{tickets}:7: 1 row left out: out of scope" in done.stderr
    assert "4 rows, 4 examples in 2 categories; 1 in several categories" in done.stdout
    assert 'wrote 2 files to categories; next: "semroute build-index"' in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_nothing_is_overwritten_and_a_dry_run_writes_nothing(tickets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(tickets), "--text", "Body", "--label", "Team", "--out", str(out)]
    done = run(*arguments, "--dry-run")
    assert "nothing was written" in done.stdout
    assert not out.exists()
    assert run(*arguments).exit_code == 0
    (out / "R&D.yaml").write_text("examples: [mine]\n")
    again = run(*arguments)
    assert isinstance(again.exception, DataError)
    assert (out / "R&D.yaml").read_text() == "examples: [mine]\n"
    assert run(*arguments, "--force").exit_code == 0
    assert "mine" not in (out / "R&D.yaml").read_text()


def test_json_has_the_same(tickets: Path, tmp_path: Path) -> None:
    done = run(str(tickets), "--text", "Body", "--label", "Team", "--out", str(tmp_path / "out"), "--json")
    value = json.loads(done.stdout)
    assert value["categories"]["R&D"] == {"examples": 2, "file": str(tmp_path / "out" / "R&D.yaml")}
    assert (value["rows"], value["examples"], value["shared"], value["written"]) == (4, 4, 1, True)
    assert [(one["line"], one["path"]) for one in value["skipped"]] == [(5, str(tickets)), (7, str(tickets))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--text", "Nothing", "--label", "Team"],
            'there is no column "Nothing"; the columns are "ID", "Body", "Team"',
        ),
        (["--text", "Body", "--label", "Team", "--names", "none.txt"], "none.txt: no such file"),
        (["--text", "Body", "--label", "Team", "--encoding", "nonsense"], "is no encoding"),
    ],
)
def test_what_cannot_be_imported_is_one_error(
    tickets: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["import", str(tickets), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not Path("categories").exists()


def test_many_categories_are_shown_in_part(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("text,label\n" + "".join(f"text {n},label {n % 40}\n" for n in range(200)))
    done = run(str(path))
    assert "... and 10 more categories; --json has all" in done.stdout
    assert len(list(Path("categories").iterdir())) == 40

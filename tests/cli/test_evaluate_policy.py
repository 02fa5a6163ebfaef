from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from semroute.cli.main import cli, main

PRICES = "small: [0.1, 0.2]\nlarge: [1.0, 3.0]\n"
WORDS = ("boil eggs", "sort a list", "appeal a ruling", "bake bread", "fix this loop", "draft a contract")


def _rows(n: int = 60) -> list[dict[str, object]]:
    random = np.random.default_rng(0)
    rows = []
    for number in range(n):
        easy = number % 3 == 0
        outcomes = {
            "small": {"quality": float(random.random() < (0.9 if easy else 0.3)), "response": "word " * 5},
            "large": {"quality": float(random.random() < 0.9), "response": "word " * 9},
        }
        query = f"{WORDS[number % 6]}, please, number {number}"
        rows.append({"query": query, "task": "easy" if easy else "hard", "outcomes": outcomes})
    return rows


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def arguments(tmp_path: Path, routing_index: Path) -> list[str]:
    (tmp_path / "prices.yaml").write_text(PRICES)
    path = _write(tmp_path / "outcomes.jsonl", _rows())
    return [
        "evaluate-policy", str(path), "--prices", str(tmp_path / "prices.yaml"), "--index", str(routing_index),
        "--resamples", "100",
    ]  # fmt: skip


def _json(arguments: list[str]) -> dict[str, object]:
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


@pytest.mark.slow
def test_json_has_every_figure(arguments: list[str]) -> None:
    value = _json([*arguments, "--leave-tasks-out"])
    assert (value["n"], value["cheapest"], value["strongest"]) == (60, "small", "large")
    assert list(value["policies"]) == ["prompt length", "task table", "cluster table", "oracle"]
    assert list(value["unseen_tasks"]["policies"]) == ["prompt length", "cluster table", "oracle"]
    assert value["costs"] == {"told": 0, "reckoned": 0, "counted": 120, "averaged": 0, "assumed": 0}
    table = value["policies"]["task table"]
    assert table["aiq"]["low"] <= table["aiq"]["value"] <= table["aiq"]["high"]
    assert table["curve"][0]["value_usd"] == 0
    assert table["curve"][-1]["value_usd"] is None
    assert sum(table["curve"][0]["shares"].values()) == pytest.approx(1)
    assert set(table["pair"]["cpt"]) == {"0.2", "0.5", "0.8"}
    assert {task["task"] for task in table["tasks"]} == {"easy", "hard"}
    assert value["policies"]["oracle"]["aiq"]["value"] >= table["aiq"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["80", "120"])
def test_people_see_the_figures_within_the_terminal(arguments: list[str], columns: str) -> None:
    done = CliRunner().invoke(cli, [*arguments, "--leave-tasks-out"], env={"COLUMNS": columns})
    words = ("AIQ", "APGR", "CPT 50%", "over zero", "cost saved", "arena", "AUROC", "ECE", "never seen", "strongest")
    for word in (
        *words,
        "chosen on other folds",
        "share of the quality gap",
        "-: not defined",
        "outcomes needed",
        "tokens counted with the tokenizer of",
        "complete rows",
        "hard",
    ):
        assert word in " ".join(done.stdout.split()), word
    assert max(map(len, done.stdout.splitlines())) <= int(columns)


@pytest.mark.slow
def test_a_pool_of_one_or_three_models_has_no_pair(arguments: list[str], tmp_path: Path) -> None:
    rows = _rows()
    for row in rows:
        row["outcomes"]["third"] = {"quality": 0.5, "cost_usd": 0.0}  # type: ignore[index]
    _write(tmp_path / "outcomes.jsonl", rows)
    out = CliRunner().invoke(cli, arguments, env={"COLUMNS": "80"}).stdout
    assert "APGR" not in out
    assert max(map(len, out.splitlines())) <= 80
    value = _json([*arguments, "--models", "small"])
    assert value["policies"]["prompt length"]["pair"] is None
    assert _json([*arguments, "--models", "large, small"])["policies"]["prompt length"]["pair"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ten rows", "no quality", "no price", "ten logged rows"])
def test_what_is_not_defined_is_a_dash_everywhere_and_never_nan(
    arguments: list[str], tmp_path: Path, kind: str
) -> None:
    rows = _rows(10 if "ten" in kind else 60)
    for number, row in enumerate(rows):
        row["task"] = f"task {number % 9}"
        for cell in row["outcomes"].values():  # type: ignore[attr-defined]
            cell["quality"] = 0.0 if kind == "no quality" else cell["quality"]
    if kind == "ten logged rows":
        _log(rows, 0.5)
    if kind == "no price":
        (tmp_path / "prices.yaml").write_text("small: [0, 0]\nlarge: [0, 0]\n")
    _write(tmp_path / "outcomes.jsonl", rows)
    html, plot = tmp_path / "r.html", tmp_path / "c.svg"
    done = CliRunner().invoke(cli, [*arguments, "--html", str(html), "--plot", str(plot)], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.exception
    for text in (done.stdout, html.read_text(), plot.read_text()):
        assert re.search(r"\bnan\b", text, re.IGNORECASE) is None
    assert "too few rows to tell" in " ".join(done.stdout.split()) or kind in ("no quality", "no price")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "said"), [(10, "too few rows to tell"), (60, "-; the difference is the same on every query")]
)
def test_outcomes_that_are_needed_are_not_made_up(arguments: list[str], tmp_path: Path, rows: int, said: str) -> None:
    tied = _rows(rows)
    for row in tied:
        for cell in row["outcomes"].values():  # type: ignore[attr-defined]
            cell["quality"] = 1.0
    _write(tmp_path / "outcomes.jsonl", tied)
    html = tmp_path / "r.html"
    shown = CliRunner().invoke(cli, [*arguments, "--html", str(html)], env={"COLUMNS": "80"}).stdout
    assert said in " ".join(shown.split())
    assert said in html.read_text()
    needed = _json(arguments)["policies"]["prompt length"]["needed"]
    assert (needed["for_interval"], needed["to_detect"]) == (None, None)


@pytest.mark.slow
def test_predictions_from_a_file_are_the_subject(arguments: list[str], tmp_path: Path) -> None:
    predicted = [
        {"query": row["query"], "quality": {"small": 0.9 if row["task"] == "easy" else 0.3, "large": 0.9}}
        for row in _rows()
    ]
    path = _write(tmp_path / "p.jsonl", predicted)
    value = _json([*arguments, "--predictions", str(path), "--policy", "prompt-length"])
    assert list(value["policies"]) == ["predictions", "prompt length"]
    assert value["policies"]["predictions"]["pair"]["apgr_over_length"]["value"] > 0
    assert any("taken as they are" in note for note in value["notes"])


@pytest.mark.slow
def test_vectors_are_kept_and_taken_again_unless_the_queries_are_others(arguments: list[str], tmp_path: Path) -> None:
    store = tmp_path / "v.npz"
    first = _json([*arguments, "--vectors", str(store)])
    with np.load(store) as arrays:
        assert arrays["vectors"].shape == (60, 384)
        pairs = np.repeat(np.eye(30, 384, dtype=np.float32), 2, axis=0)
        np.savez(store, queries=arrays["queries"], vectors=pairs)
    second = _json([*arguments, "--vectors", str(store)])
    assert (first["duplicates"]["near"], second["duplicates"]["near"]) == (0, 60)
    _write(tmp_path / "outcomes.jsonl", _rows(59))
    _json([*arguments, "--vectors", str(store)])
    with np.load(store) as arrays:
        assert arrays["vectors"].shape == (59, 384)


@pytest.mark.slow
def test_a_store_that_is_none_is_refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "v.npz").write_text("no vectors")
    assert main([*arguments, "--vectors", str(tmp_path / "v.npz")]) == 2
    assert "cannot be read as stored vectors" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_store_of_pickled_objects_is_refused_without_the_advice_to_load_it(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, arrays in (
        ("objects", {"vectors": np.zeros(3), "queries": np.array(["x", None], object)}),
        ("others", {"a": np.zeros(3)}),
        ("single", None),
        ("text", None),
        ("damaged", None),
    ):
        path = tmp_path / f"{name}.npz"
        if arrays is not None:
            np.savez(path, **arrays)
        elif name == "single":
            with path.open("wb") as file:
                np.save(file, np.zeros(3))
        elif name == "damaged":
            path.write_bytes(b"PK\x03\x04" + bytes(60))
        else:
            path.write_text("no vectors")
        assert main([*arguments, "--vectors", str(path)]) == 2, name
        said = " ".join(capsys.readouterr().err.split())
        assert f"{name}.npz: cannot be read as stored vectors" in said
        assert "remove it, or name another" in said
        assert "allow_pickle" not in said
        assert "Traceback" not in said


@pytest.mark.slow
def test_plot_and_page_are_written(arguments: list[str], tmp_path: Path) -> None:
    plot, html = tmp_path / "c.svg", tmp_path / "r.html"
    done = CliRunner().invoke(cli, [*arguments, "--json", "--plot", str(plot), "--html", str(html)])
    assert done.stderr.endswith(f"wrote {plot}\nwrote {html}\n")
    json.loads(done.stdout)
    assert "<svg" in plot.read_text()
    assert "outcomes.jsonl" in html.read_text()


@pytest.mark.slow
def test_a_log_with_probabilities_is_estimated_and_says_so(arguments: list[str], tmp_path: Path) -> None:
    rows = _rows(200)
    for number, row in enumerate(rows):
        model = ("small", "large")[number % 2]
        row["outcomes"] = {model: row["outcomes"][model] | {"probability": 0.5}}  # type: ignore[index]
    _write(tmp_path / "outcomes.jsonl", rows)
    value = _json(arguments)
    assert value["method"] == "doubly robust"
    assert set(value["policies"]["task table"]["estimates"]) == {"IPS", "SNIPS", "DR"}
    assert "oracle" not in value["policies"]
    assert "doubly robust" in CliRunner().invoke(cli, arguments).stdout


def _log(rows: list[dict[str, object]], probability: float) -> list[dict[str, object]]:
    """As a log tells them that asks the two models in turn."""
    for number, row in enumerate(rows):
        model = ("small", "large")[number % 2]
        row["outcomes"] = {model: row["outcomes"][model] | {"probability": probability}}  # type: ignore[index]
    return rows


@pytest.mark.slow
def test_a_log_of_a_fixed_rule_is_refused_with_the_models_and_a_fix(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "outcomes.jsonl", _log(_rows(200), 1))
    assert main([*arguments, "--json"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    for words in ('"small" was chosen by a fixed rule', '"large" was chosen', "trial.share", "semroute collect"):
        assert words in said, words


@pytest.mark.slow
def test_probabilities_that_are_a_little_off_are_warned_of_wherever_the_figures_are_shown(
    arguments: list[str], tmp_path: Path
) -> None:
    _write(tmp_path / "outcomes.jsonl", _log(_rows(1200), 0.45))
    html = tmp_path / "r.html"
    quick = [*arguments, "--policy", "task-table"]
    value = _json([*quick, "--html", str(html)])
    words = '"small" was not chosen with the recorded probabilities: its mean weight is 1.11'
    assert value["method"] == "doubly robust"
    assert sum(words in warning for warning in value["warnings"]) == 1
    assert words.split('"')[2] in html.read_text()
    assert 'class="warning"' in html.read_text()
    shown = CliRunner().invoke(cli, quick, env={"COLUMNS": "80"}).stdout
    assert words in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.slow
def test_a_model_that_one_row_knows_is_refused_by_its_name(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _log(_rows(200), 0.5)
    rows[0]["outcomes"]["third"] = {"quality": 1.0, "cost_usd": 0.1, "probability": 0.005}  # type: ignore[index]
    for row in rows:
        for cell in row["outcomes"].values():  # type: ignore[attr-defined]
            cell["cost_usd"] = 0.1
    (tmp_path / "prices.yaml").write_text(PRICES + "third: [1.0, 1.0]\n")
    _write(tmp_path / "outcomes.jsonl", rows)
    assert main([*arguments, "--json"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert '"third" has answers to 1 of 200 queries' in said
    assert "--models" in said
    assert _json([*arguments, "--models", "small,large"])["method"] == "doubly robust"


@pytest.mark.slow
def test_a_model_that_two_rows_of_one_task_know_is_estimated_on_tasks_never_seen_too(
    arguments: list[str], tmp_path: Path
) -> None:
    rows = _log(_rows(200), 0.5)
    for row in rows[:4:3]:
        row["outcomes"]["third"] = {"quality": 1.0, "probability": 0.01}  # type: ignore[index]
    (tmp_path / "prices.yaml").write_text(PRICES + "third: [1.0, 1.0]\n")
    _write(tmp_path / "outcomes.jsonl", rows)
    value = _json([*arguments, "--leave-tasks-out"])
    assert any('"third" has answers to 2 queries only' in warning for warning in value["warnings"])
    assert value["unseen_tasks"]["models"]["third"]["quality"]["value"] is not None


@pytest.mark.slow
def test_rows_that_lack_a_model_are_left_out_and_counted(arguments: list[str], tmp_path: Path) -> None:
    rows = _rows()
    for row in rows[:7]:
        del row["outcomes"]["large"]  # type: ignore[attr-defined]
    _write(tmp_path / "outcomes.jsonl", rows)
    value = _json(arguments)
    assert (value["n"], value["left_out"], value["method"]) == (53, 7, "complete rows")
    assert "7 of 60 queries lack the quality of a model" in value["notes"][0]


@pytest.mark.slow
def test_prices_may_come_from_the_configuration(arguments: list[str], tmp_path: Path) -> None:
    config = tmp_path / "semroute.yaml"
    config.write_text(
        "models:\n  small: {price: {input: 0.1, output: 0.2}}\n  large: {price: {input: 1.0, output: 3.0}}\n"
    )
    place = arguments.index("--prices")
    without = [*arguments[:place], *arguments[place + 2 :], "--config", str(config)]
    assert _json(without)["models"] == _json(arguments)["models"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--strongest", "huge"], 'no model "huge" among the outcomes; they hold small, large'),
        (["--models", "small,huge"], 'the outcomes hold no model "huge"'),
        (["--folds", "61"], "60 different queries cannot be split into 61 folds"),
        (["--plot", "c.pdf"], "a plot is one of .png, .svg"),
        (["--html", "nowhere/r.html"], "there is no folder nowhere"),
        (["--predictions", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--prices", "absent.yaml"], "absent.yaml: no such file"),
    ],
)
def test_bad_input_is_said_in_a_line_and_without_a_traceback(
    arguments: list[str], extra: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main([*arguments, *extra]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert said in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_outcomes_without_a_price_say_what_to_do(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "prices.yaml").write_text("small: [0.1, 0.2]\n")
    assert main(arguments) == 2
    assert 'no price for "large"' in capsys.readouterr().err

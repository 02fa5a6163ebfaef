from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli.runner import run
from predictors.query_quality.query_heads import MODELS, made

from semroute.cli.main import main
from semroute.config import load_config
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.replay import choose
from semroute.index import BothScores, open_artifact
from semroute.learn.artifact import with_thresholds
from semroute.learn.policy.families import AnswerPlan, ByCategory, CategoryTable, PolicyData
from semroute.learn.policy.prepare import split
from semroute.learn.policy.search import Goal
from semroute.predictors.query_quality import read_query_classifier, write_query_classifier
from semroute.router import Router
from semroute.workflows.tune_policy import TuneSource, tune_policy
from semroute.workflows.workspace import Workspace

pytestmark = pytest.mark.usefixtures("chosen_index")

HEADS = ("--head", "linear", "--head", "neighbours")


def written(path: Path, n: int, *, answers: bool = False) -> Path:
    data = made(n, noise=0.02)
    if answers:  # what no query tells, and every answer does
        data.quality[:, 0] = np.random.default_rng(0).permutation(np.arange(n) % 3 > 0)
    with path.open("w") as file:
        for query, quality in zip(data.queries, data.quality.tolist(), strict=True):
            cells = {
                model: {"quality": value, "output_tokens": 50, "input_tokens": 20}
                for model, value in zip(MODELS, quality, strict=True)
            }
            if answers:
                cells["small"]["response"] = f"It is 2 + 2 = {4 if quality[0] else 9}."
            file.write(json.dumps({"query": query, "outcomes": cells}) + "\n")
    return path


@pytest.fixture
def outcomes() -> Path:
    Path("prices.yaml").write_text("small: [0.1, 0.4]\nlarge: [5, 15]\n")
    return written(Path("outcomes.jsonl"), 500)


def tune(outcomes: Path, *more: str) -> tuple[str, ...]:
    return ("tune-policy", str(outcomes), "--prices", "prices.yaml", "--out", "policy", *HEADS, *more)


@pytest.mark.slow
def test_the_policy_that_is_written_runs(outcomes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run(*tune(outcomes, "--min-quality", "0.85", "--plot", "curve.png"))
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in ("always large", "one model or classifier", "most quality per dollar", "Learn then Test"):
        assert words in " ".join(done.stdout.split())
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")
    text = Path("policy/policy.yaml").read_text()
    assert text.startswith("# at least 85.0% of the quality of large, with 95% confidence in the long run\n")
    Path("semroute.yaml").write_text(text)
    router = Router.load(config=load_config(Path("semroute.yaml")))
    # Of several: the cheapest policy that keeps the promise gives some sums to the small model.
    assert {decision.model for decision in router.route_many(made(20, seed=1).queries)} == set(MODELS)


@pytest.mark.slow
def test_as_json_everything_is_told_and_kept(outcomes: Path) -> None:
    told = json.loads(
        run(
            *tune(
                outcomes,
                "--min-quality",
                "0.85",
                "--confidence",
                "0.9",
                "--ahead",
                "300",
                "--held-out",
                "0.5",
                "--json",
            )
        ).stdout
    )
    assert told["strongest"] == "large"
    assert (told["confidence"], told["ahead"]) == (0.9, 300)
    assert told["promised"] >= 0.85
    assert told["figures"]["saved"]["value"] > 0.1
    assert told["tuned_on"]["queries"] + told["tuned_on"]["tested_on"] == 500
    kept = json.loads(Path("policy/policy.json").read_text())
    assert {"policy": "policy", **kept} == told
    assert yaml.safe_load(Path("policy/policy.yaml").read_text()) == told["config"]


@pytest.mark.slow
def test_where_every_model_is_free_nothing_is_saved_and_no_figure_is_nan(outcomes: Path) -> None:
    Path("prices.yaml").write_text("small: [0, 0]\nlarge: [0, 0]\n")
    done = run(*tune(outcomes, "--min-quality", "0.85"))
    assert done.exit_code == 0
    assert "nothing, for it costs nothing" in done.stdout
    assert "nan" not in done.stdout


@pytest.mark.slow
def test_a_second_policy_takes_the_place_of_the_first_and_leaves_the_classifier_that_may_still_be_in_use(
    outcomes: Path,
) -> None:
    def folder() -> Path:
        return Path(yaml.safe_load(Path("policy/policy.yaml").read_text())["classifier"]["folder"])

    run(*tune(outcomes, "--min-quality", "0.85"))
    first = folder()
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    run(*tune(outcomes, "--min-quality", "0.8"))
    assert folder() == first, "of the same outcomes comes the same classifier"
    done = run(*tune(written(Path("more.jsonl"), 480), "--min-quality", "0.85"))
    assert folder() != first
    assert f"{first.parent}, of an earlier policy, stays" in " ".join(done.stderr.split())
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    run(*tune(outcomes, "--value", "0"))
    assert yaml.safe_load(Path("policy/policy.yaml").read_text())["fallback"] == {"models": ["small"]}


@pytest.mark.slow
def test_where_answers_are_told_a_cascade_is_tried_and_written_with_its_check() -> None:
    Path("prices.yaml").write_text("small: [0.1, 0.4]\nlarge: [5, 15]\n")
    answered = written(Path("answered.jsonl"), 500, answers=True)
    assert run(*tune(answered, "--min-quality", "0.95")).exit_code == 0
    said = yaml.safe_load(Path("policy/policy.yaml").read_text())
    assert said["cascade"]["tiers"] == ["small", {"use": "large", "accept": {"format": False}}]
    assert Path(said["cascade"]["accept"]["quality"]["classifier"], "classifier.json").is_file()


@pytest.mark.slow
def test_what_cannot_be_done_is_said(outcomes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str) -> str:
        assert main(arguments) == 2
        return capsys.readouterr().err

    assert "give one of" in error(*tune(outcomes))
    assert "give one of" in error(*tune(outcomes, "--value", "1", "--max-cost", "1"))
    assert "not reachable" in error(*tune(outcomes, "--min-quality", "1.5"))
    assert "not reachable" in error(*tune(outcomes, "--max-cost", "1e-9"))
    assert 'no model "huge"' in error(*tune(outcomes, "--min-quality", "0.9", "--strongest", "huge"))
    assert "name it so" in error(*tune(outcomes, "--min-quality", "0.9", "--plot", "curve.pdf"))
    few = written(Path("few.jsonl"), 60)
    assert "each part needs 50" in error(*tune(few, "--min-quality", "0.9", "--held-out", "0.5"))
    assert "a policy needs 50" in error(*tune(written(Path("fewer.jsonl"), 40), "--min-quality", "0.9"))
    assert not Path("policy").exists()
    Path("policy").mkdir()
    Path("policy/thesis.txt").write_text("x")
    assert "holds other files" in error(*tune(outcomes, "--value", "0"))


@pytest.mark.slow
def test_the_report_tells_whether_the_policy_still_fits(
    outcomes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    prices = {
        "models": {"small": {"price": {"input": 0.1, "output": 0.4}}, "large": {"price": {"input": 5, "output": 15}}}
    }
    Path("semroute.yaml").write_text(yaml.safe_dump(prices))
    run(*tune(outcomes, "--min-quality", "0.85"))
    with Path("same.jsonl").open("w") as file:
        file.writelines(json.dumps({"query": query}) + "\n" for query in made(150, seed=5).queries)
    with Path("other.jsonl").open("w") as file:
        file.writelines(json.dumps({"query": f"how do I boil {number} eggs"}) + "\n" for number in range(150))
    run("route", "--file", "same.jsonl")
    shown = run("report", "--policy", "policy")
    assert "the policy fits" in shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80
    Path(".semroute/log.db").unlink()
    run("route", "--file", "other.jsonl")
    prices["models"]["large"]["price"]["input"] = 2
    Path("semroute.yaml").write_text(yaml.safe_dump(prices))
    told = json.loads(run("report", "--policy", "policy", "--json").stdout)["drift"]
    assert told["queries"] == 150
    assert told["stability"] > 0.2
    assert told["prices"] == {"large": [[5.0, 15.0], [2.0, 15.0]]}
    assert len(told["reasons"]) >= 2
    assert "tune the policy again" in " ".join(run("report", "--policy", "policy", "--html", "r.html").stderr.split())
    page = Path("r.html").read_text("utf-8")
    assert page.count("tune the policy again: ") == len(told["reasons"])
    assert "<td>price of large</td><td>5, 15</td><td>2, 15</td>" in page
    assert main(["report", "--policy", "policy", "--category", "code"]) == 2
    assert "leave out --category" in capsys.readouterr().err
    assert main(["report", "--policy", "nowhere"]) == 1
    assert "semroute tune-policy OUTCOMES --out nowhere" in capsys.readouterr().err


@pytest.fixture(params=[False, True], ids=["one stage", "a first stage"])
def staged(request: pytest.FixtureRequest, own_staged_index: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the index has a first stage. It answers all that it does not reject, and so is often wrong."""
    if request.param:
        artifact = open_artifact(own_staged_index)
        assert artifact.manifest.first_stage is not None
        with_thresholds(artifact, {}, "", first_stage=replace(artifact.manifest.first_stage, bar=0.0))
        monkeypatch.setenv("SEMROUTE_INDEX", str(own_staged_index))
    return bool(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("tells", ["cost_usd", "response"])
def test_the_router_decides_on_every_query_as_the_policy_was_tested(tells: str, staged: bool) -> None:
    Path("prices.yaml").write_text("small: [2, 3]\nlarge: [5, 15]\n")
    data = made(400, noise=0.02)
    # Of all lengths, so that the input counts; told costs are not those of the list.
    queries = [f"{query} {'and more ' * (number % 40)}".strip() for number, query in enumerate(data.queries)]
    said: dict[str, tuple[object, ...]] = {"cost_usd": (1e-3, 2e-3), "response": ("a word " * 40, "a word " * 20)}
    with Path("told.jsonl").open("w") as file:
        for query, quality in zip(queries, data.quality.tolist(), strict=True):
            cells = {
                model: {"quality": value, tells: one}
                for model, value, one in zip(MODELS, quality, said[tells], strict=True)
            }
            file.write(json.dumps({"query": query, "outcomes": cells}) + "\n")
    source = TuneSource(
        [Path("told.jsonl")], Path("prices.yaml"), None, None, ["linear"], 0.5, 0.95, None, 0, None, Path("policy")
    )
    found = tune_policy(source, Goal(value=0.0015), Workspace())
    family = next(point.family for point in found.tuned.points if point.family.asks_classifier)
    write_query_classifier(found.prepared.classifier, Path(family.config(0.0015)["classifier"]["folder"]), report={})
    prices = {"small": {"price": {"input": 2, "output": 3}}, "large": {"price": {"input": 5, "output": 15}}}
    Path("semroute.yaml").write_text(yaml.safe_dump({**family.config(0.0015), "models": prices}))
    held = split(duplicates(queries, Workspace().vectors(queries, None, lambda *_: None)).group, 0.5, 0)[1]
    part = found.prepared.held
    played = [MODELS[place] for place in choose(part.predicted, part.expected, 0.0015).tolist()]
    served = [one.model for one in Router.load().route_many([queries[row] for row in held.tolist()])]
    assert set(played) == set(MODELS), "otherwise there is nothing to tell apart"
    assert served == played


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 0.1, -0.1])
def test_the_router_sends_every_query_the_way_of_its_category_as_the_policy_was_tested(
    offset: float, staged: bool
) -> None:
    queries = [f"{start} {thing}" for start in ("How do I", "Why does one", "Please") for thing in THINGS]
    encoding = Workspace()
    both = encoding.both_scores(queries, encoding.vectors(queries, None, lambda *_: None))
    family = ByCategory(MODELS, *encoding.thresholds, encoding.accept_threshold)
    table = CategoryTable(1.0, offset, (AnswerPlan(0), AnswerPlan(1), AnswerPlan(0), AnswerPlan(1)))
    cost = np.tile(np.array([1, 2], np.float32), (len(queries), 1))
    part = PolicyData(cost, cost, cost, cost.astype(np.float64), both, {}, np.arange(len(queries)))
    played = [MODELS[int(usd) - 1] for usd in family.play(table, part).cost]
    Path("semroute.yaml").write_text(yaml.safe_dump(dict(family.config(table))))
    assert [one.model for one in Router.load().route_many(queries)] == played
    alone = family.play(table, replace(part, scores=BothScores(None, both.second)))
    assert (played != [MODELS[int(usd) - 1] for usd in alone.cost]) == staged, "the first stage tells on some"
    assert set(played) == set(MODELS), "otherwise there is nothing to tell apart"


THINGS = (
    "fix a segmentation fault in this C program", "cook rice without burning it", "appeal a court's decision",
    "sort a list of objects by two keys", "bake bread with wild yeast", "sue a landlord", "paint a fence",
    "parse the recipe file in Python", "know whether a cake may be sold without a licence", "sleep better",
)  # fmt: skip


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_the_policy_that_was_there_with_its_own_classifier(outcomes: Path) -> None:
    run(*tune(outcomes, "--min-quality", "0.85"))
    before = {path: path.read_bytes() for path in Path("policy").rglob("*") if path.is_file()}
    more = written(Path("more.jsonl"), 480)
    # A limit on the size of files fails as a full disk does; this one lets the manifest through, not the arrays.
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
    program += f"from semroute.cli.main import main; sys.exit(main({list(tune(more, '--min-quality', '0.85'))!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "cannot be written (File too large)" in " ".join(done.stderr.split())
    assert {path: path.read_bytes() for path in before} == before
    assert read_query_classifier(Path(yaml.safe_load(Path("policy/policy.yaml").read_text())["classifier"]["folder"]))


@pytest.mark.slow
def test_what_was_logged_before_the_tuning_and_what_another_index_scores_is_no_drift(
    outcomes: Path, own_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drift(*more: str) -> dict[str, object]:
        told = json.loads(run("report", "--policy", "policy", "--json", *more).stdout)["drift"]
        assert isinstance(told, dict)
        return told

    Path("other.jsonl").write_text("".join(f'{{"query": "how do I boil {number} eggs"}}\n' for number in range(150)))
    run("route", "--file", "other.jsonl")
    run(*tune(outcomes, "--min-quality", "0.85"))
    assert (drift()["queries"], drift()["reasons"]) == (0, [])
    assert drift("--since", "1d")["queries"] == 150
    run("route", "--file", "other.jsonl")
    run("route", "--file", "other.jsonl")
    assert drift()["queries"] == 150, "each query once"
    monkeypatch.setenv("SEMROUTE_INDEX", str(own_index))
    assert drift()["same_index"] is True, "a copy scores alike"
    assert run("remove", "law").exit_code == 0
    found = drift()
    assert (found["same_index"], found["queries"]) == (False, 0)
    assert "the index is not the one" in str(found["reasons"])


@pytest.mark.slow
def test_judgements_of_one_query_are_one_draw(outcomes: Path) -> None:
    run(*tune(outcomes, "--min-quality", "0.85"))
    for _ in range(4):
        run("route", "how do I boil an egg")
        run("feedback", "last", "bad")
    run("route", "how do I bake bread")
    run("feedback", "last", "good")
    told = json.loads(run("report", "--policy", "policy", "--json").stdout)["drift"]
    assert (told["judged"], told["quality"]["value"]) == (2, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.7, 0.85, 0.93, 0.97, 1.0])
def test_the_picture_measures_floor_choice_and_curves_on_the_same_rows(outcomes: Path, fraction: float) -> None:
    source = TuneSource(
        [outcomes], Path("prices.yaml"), None, None, ["linear"], 0.4, 0.9, None, 1, None, Path("policy")
    )
    found = tune_policy(source, Goal(min_quality=fraction), Workspace())
    held, tuned = found.prepared.held, found.prepared.tuning
    marks, curves = found.marks(), found.curves()
    strongest = float(held.quality[:, found.tuned.strongest].mean())
    assert found.floor == pytest.approx(fraction * strongest)
    assert marks["always large"] == pytest.approx((float(held.cost[:, 1].mean()), strongest))
    assert strongest != pytest.approx(float(tuned.quality[:, 1].mean()), abs=1e-4), "else the rows would not matter"
    # What has passed its test keeps the floor on the rows that tested it, and lies on the curve of its kind.
    cost, quality = marks["chosen"]
    assert quality >= found.floor - 1e-9
    assert found.tuned.chosen is not None
    own = curves[found.tuned.chosen.family.name]
    assert min(abs(cost - x) / cost + abs(quality - y) for x, y in own) < 1e-6

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from semroute.cli.label import Action, Judging, shares, shown
from semroute.cli.main import cli, main
from semroute.outcomes.files import read_outcomes
from semroute.testing import FakeProvider, RecordedRequest, answer
from semroute.workflows.labeling import open_session

pytestmark = pytest.mark.usefixtures("chosen_index")

ENTER = "\r"


@pytest.fixture
def outcomes() -> str:
    with Path("collected.jsonl").open("w") as file:
        for number in range(6):
            cells = {
                "small": {"quality": None, "cost_usd": 0.001, "response": f"small says {number}"},
                "large": {"quality": None, "cost_usd": 0.01, "response": f"large answers {number} at length"},
            }
            file.write(json.dumps({"query": f"question {number}", "task": "t", "outcomes": cells}) + "\n")
    return "collected.jsonl"


def run(*arguments: str, keys: str = "") -> Result:
    return CliRunner().invoke(cli, arguments, input=keys, catch_exceptions=False)


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("golden.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_keys_mark_answers_and_enter_keeps_them(outcomes: str) -> None:
    done = run("label", outcomes, "--out", "golden.jsonl", keys=f"1{ENTER}2{ENTER}a{ENTER}n{ENTER}q")
    assert done.exit_code == 0
    # Enter keeps nothing until every answer has a mark: "1" marks one of two, and "2" the other.
    judged = rows()
    assert len(judged) == 3
    assert [{cell["quality"] for cell in row["outcomes"].values()} for row in judged] == [{1.0}, {1.0}, {0.0}]
    assert {row["judged_by"] for row in judged} == {"human"}
    assert judged[1]["picked"] == "random"
    assert judged[0]["picked"] != "random"
    table = read_outcomes("golden.jsonl", keep_responses=True)
    assert table.is_complete.all()
    assert table.cost[0].tolist() == pytest.approx([0.001, 0.01]) or table.cost[0].tolist() == pytest.approx(
        [0.01, 0.001]
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    cost=st.integers(0, 999_999).map(lambda digits: digits / 10**9),
    tokens=st.integers(0, 1_000_000),
    latency=st.integers(0, 999_999).map(lambda digits: digits / 100),
)
def test_numbers_are_written_as_they_were_told(cost: float, tokens: int, latency: float) -> None:
    told = {"cost_usd": cost, "input_tokens": tokens, "output_tokens": 26, "latency_ms": latency}
    with TemporaryDirectory() as folder:
        outcomes, out = Path(folder) / "outcomes.jsonl", Path(folder) / "golden.jsonl"
        cell = {"quality": None, **told, "response": "yes"}
        outcomes.write_text(json.dumps({"query": "q", "outcomes": {"small": cell}}) + "\n")
        open_session([outcomes], out).append(0, {"small": 1.0}, judged_by="human")
        written = json.loads(out.read_text())["outcomes"]["small"]
    assert {name: written[name] for name in told} == told
    assert isinstance(written["input_tokens"], int)
    assert isinstance(written["output_tokens"], int)


@pytest.mark.slow
def test_it_goes_on_where_it_stopped_and_stops_at_the_limit(outcomes: str) -> None:
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}q")
    told = json.loads(
        run(
            "label", outcomes, "--out", "golden.jsonl", "--limit", "2", "--json", keys=f"a{ENTER}a{ENTER}"
        ).stdout.splitlines()[-1]
    )
    assert told["judged"] == 2
    assert len({row["query"] for row in rows()}) == 3
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}" * 3)
    assert len(rows()) == 6


@pytest.mark.slow
def test_the_last_one_can_be_taken_back_and_one_can_be_skipped(outcomes: str) -> None:
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}un{ENTER}sa{ENTER}q")
    judged = rows()
    assert len(judged) == 2
    assert {cell["quality"] for cell in judged[0]["outcomes"].values()} == {0.0}


def test_marks_go_round_and_other_keys_do_nothing() -> None:
    judging = Judging.of("q", ["one", "two"])
    seen = []
    for _ in range(4):
        judging, action = judging.press("1")
        assert action is None
        seen.append(judging.marks[0])
    assert seen == [1.0, 0.0, 0.5, 1.0]
    assert judging.press("3") == judging.press("x") == judging.press("") == judging.press("²") == (judging, None)
    assert judging.press("q")[1] is Action.QUIT


def test_enter_says_which_answers_lack_a_mark_until_another_key_is_pressed() -> None:
    judging, action = Judging.of("q", ["one", "two", "three"]).press("2")[0].press(ENTER)
    assert action is None
    console = Console(width=80, height=24, record=True, file=io.StringIO())
    console.print(shown(judging, console, done=0, wanted=1, reason="rare"))
    assert "not saved: 1, 3 have no mark yet" in console.export_text()
    assert judging.press("1")[0].said == ""
    assert judging.press("1")[0].press("3")[0].press(ENTER)[1] is Action.SAVE


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_screen_shows_answers_without_the_names_of_models(width: int) -> None:
    judging = Judging.of("What is it?", ["this\nand that", "x" * 5000, "other"])
    console = Console(width=width, height=24, record=True, file=io.StringIO())
    console.print(shown(judging, console, done=0, wanted=5, reason="rare"))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for words in ("What is it?", "this", "[…]", "other", "1 of 5", "picked as rare"):
        assert words in text


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    query=st.text(max_size=3000),
    answers=st.lists(st.text("ab \n\t界", max_size=4000), min_size=1, max_size=4),
    width=st.integers(60, 200),
    height=st.integers(24, 60),
    said=st.booleans(),
)
def test_query_and_answers_of_any_length_fit_the_terminal(
    query: str, answers: list[str], width: int, height: int, said: bool
) -> None:
    judging = Judging.of(query, answers)
    console = Console(width=width, height=height, file=io.StringIO())
    lines = console.render_lines(
        shown(judging.press(ENTER)[0] if said else judging, console, done=0, wanted=5, reason="rare")
    )
    assert len(lines) < height
    text = ["".join(part.text for part in line) for line in lines]
    assert text[0].startswith("1 of 5")
    assert text[-1].rstrip().endswith("end"), "the keys are the last"


def test_nine_answers_and_their_query_fit_a_terminal_of_80_by_24() -> None:
    judging = Judging.of("What is it?", [f"{number} begins\n" + "long " * 500 + "end" for number in range(9)])
    console = Console(width=80, height=24, record=True, file=io.StringIO())
    console.print(shown(judging, console, done=0, wanted=5, reason="rare"))
    text = console.export_text()
    assert len(text.splitlines()) < 24
    assert "What is it?" in text
    assert all(f"{number} begins" in text for number in range(9))


@pytest.mark.slow
@given(needs=st.lists(st.integers(1, 50), min_size=1, max_size=10), room=st.integers(-5, 200))
def test_lines_are_shared_so_that_short_texts_are_whole(needs: list[int], room: int) -> None:
    given_lines = shares(needs, room)
    assert all(1 <= some <= need for some, need in zip(given_lines, needs, strict=True))
    assert sum(given_lines) <= max(room, len(needs))
    if sum(needs) <= room:
        assert given_lines == needs
    cut = [some for some, need in zip(given_lines, needs, strict=True) if some < need]
    if cut:
        assert max(given_lines) - min(cut) <= 1, "who is cut has no less than the others, but for a remainder"


@pytest.mark.slow
def test_a_key_shows_query_and_answers_whole() -> None:
    long = "\n".join(f"line {number}" for number in range(300))
    cells = {model: {"quality": None, "response": f"{model}\n{long}"} for model in ("small", "large")}
    Path("long.jsonl").write_text(json.dumps({"query": "What is it?", "outcomes": cells}) + "\n")
    done = run("label", "long.jsonl", "--out", "golden.jsonl", keys=f"va{ENTER}")
    assert "--- answer 1 ---" in done.stdout
    assert done.stdout.count("\nline 150\n") == 2
    assert done.stdout.count("─ query ─") == 3, "the screen comes back, and nothing is lost by looking"
    assert len(rows()) == 1


@pytest.mark.slow
def test_who_quits_at_once_is_told_of_no_file_that_is_not_there(outcomes: str) -> None:
    done = run("label", outcomes, "--out", "golden.jsonl", keys="q")
    assert done.exit_code == 0
    assert "no query was judged, and golden.jsonl was not begun" in " ".join(done.stderr.split())
    assert "random sample" not in done.stderr
    assert not Path("golden.jsonl").exists()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        place = {"name": "j", "model": "judge", "base_url": running.base_url, "price": {"input": 10, "output": 10}}
        Path("semroute.yaml").write_text(yaml.safe_dump({"deployments": [place]}))
        yield running


@pytest.mark.slow
def test_a_model_judges_all_and_its_agreement_with_a_person_is_told(outcomes: str, provider: FakeProvider) -> None:
    def reply(request: RecordedRequest) -> Any:
        asked = request.body["messages"][1]["content"]
        return answer("nonsense" if "small says 5" in asked else "9" if "large answers" in asked else "2")

    provider.always(reply)
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}a{ENTER}q")
    told = json.loads(
        run("label", outcomes, "--out", "judged.jsonl", "--judge", "judge", "--golden", "golden.jsonl", "--json").stdout
    )
    assert (told["judged"], told["without_grade"]) == (11, 1)
    assert told["spent_usd"] > 0
    table = read_outcomes("judged.jsonl")
    assert table.quality[:, table.models.index("large")].tolist() == pytest.approx([0.9] * 6)
    assert told["agreement"]["same"]["value"] == pytest.approx(0.5, abs=0.2)
    assert told["agreement"]["too_strict"]["n"] >= 3
    shown = run("label", outcomes, "--out", "judged.jsonl", "--judge", "judge", "--golden", "golden.jsonl")
    assert "same as the person" in shown.stdout
    assert "judged 0 answers" in shown.stderr


@pytest.mark.slow
def test_a_judge_keeps_to_its_budget(outcomes: str, provider: FakeProvider) -> None:
    provider.always(answer("5", input_tokens=300, output_tokens=30))

    def judged(out: str, *more: str) -> dict[str, Any]:
        shown = run("label", outcomes, "--out", out, "--judge", "judge", "--json", *more).stdout
        told = json.loads(shown)
        assert isinstance(told, dict)
        return told

    whole = judged("all.jsonl")
    # What a row may cost at most is far more than what it does cost, since the longest grade is reckoned with.
    budget = whole["spent_usd"] / 2 + 0.0095
    told = judged("some.jsonl", "--max-usd", str(budget))
    assert 0 < told["judged"] < whole["judged"] == 12
    assert told["spent_usd"] <= budget


def many(count: int = 30) -> str:
    with Path("many.jsonl").open("w") as file:
        for number in range(count):
            cells = {model: {"quality": None, "response": f"{model} {number}"} for model in ("small", "large")}
            file.write(json.dumps({"query": f"question {number}", "outcomes": cells}) + "\n")
    return "many.jsonl"


def failed(*arguments: str, code: int = 2) -> tuple[str, str]:
    """Standard output and standard error, on one line each, of a command that fails."""
    from contextlib import redirect_stderr, redirect_stdout

    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        assert main(list(arguments)) == code
    return " ".join(out.getvalue().split()), " ".join(err.getvalue().split())


@pytest.mark.slow
def test_a_judge_that_gives_no_grade_is_stopped_after_a_few_replies_and_told_of(provider: FakeProvider) -> None:
    provider.always(answer("I would call this a solid answer. " * 20))
    golden = Path("golden.jsonl")
    golden.write_text('{"query": "question 1", "outcomes": {"small": {"quality": 1}}}\n')
    _, err = failed("label", many(), "--out", "j.jsonl", "--judge", "judge", "--golden", str(golden))
    assert len(provider.requests) == 6, "rows of two, until five or more replies held no grade"
    assert 'none of 6 replies of judge holds a grade, such as "I would call this a solid answer.' in err
    assert "the number alone" in err
    assert "json_schema" in err
    assert "no such file" not in err
    assert not Path("j.jsonl").exists()
    assert len(err) < 1000, "the reply is abridged"
    out, err = failed("label", many(), "--out", "j.jsonl", "--judge", "judge", "--json")
    told = json.loads(out)
    assert (told["judged"], told["without_grade"], told["stopped_by"]) == (0, 6, "no readable grade")
    assert "none of 6 replies" in err


def test_a_judge_whose_thinking_leaves_no_room_for_the_grade_is_told_so(provider: FakeProvider) -> None:
    provider.always(answer("Let me think about", finish="length"))
    _, err = failed("label", many(1), "--out", "j.jsonl", "--judge", "judge")
    assert "none of 2 replies of judge holds a grade" in err
    assert "cut off at 64 tokens" in err


def test_grades_that_could_not_be_read_are_counted_and_warned_of(outcomes: str, provider: FakeProvider) -> None:
    provider.always(lambda request: answer("well" if "small says" in request.body["messages"][1]["content"] else "5"))
    done = run("label", outcomes, "--out", "j.jsonl", "--judge", "judge")
    assert done.exit_code == 0
    err = " ".join(done.stderr.split())
    assert "judge judged 6 answers" in err
    assert 'warning: 6 of 12 replies of judge hold no grade, such as "well"' in err
    assert "the next run asks about them again" in err


def test_a_budget_that_ends_the_judging_is_told(outcomes: str, provider: FakeProvider) -> None:
    provider.always(answer("5", input_tokens=300, output_tokens=30))
    _, err = failed("label", outcomes, "--out", "j.jsonl", "--judge", "judge", "--max-usd", "0.001")
    assert not provider.requests
    assert "nothing was judged: of the budget of USD 0.001, the rest of USD 0.001 would not cover the longest" in err
    assert "12 answers were not judged" in err
    done = run("label", outcomes, "--out", "j.jsonl", "--judge", "judge", "--max-usd", "0.03")
    assert done.exit_code == 0
    judged = sum(len(json.loads(line)["outcomes"]) for line in Path("j.jsonl").read_text().splitlines())
    assert 0 < judged < 12
    err = " ".join(done.stderr.split())
    assert "warning: of the budget of USD 0.03, the rest of USD" in err
    assert f"{12 - judged} answers were not judged" in err


@pytest.mark.slow
def test_answers_that_an_earlier_run_could_not_grade_do_not_keep_the_rest_from_being_judged(
    provider: FakeProvider,
) -> None:
    provider.always(lambda request: answer("no" if "small" in request.body["messages"][1]["content"] else "5"))
    judge = ("label", many(8), "--out", "j.jsonl", "--judge", "judge")
    assert run(*judge).exit_code == 0
    with Path("many.jsonl").open("a") as file:
        file.write('{"query": "new", "outcomes": {"large": {"quality": null, "response": "large"}}}\n')
    told = json.loads(run(*judge, "--json").stdout)
    assert (told["judged"], told["without_grade"]) == (1, 8)
    # Nothing but leftovers, and more than a few of them: that is said with an error.
    assert "none of 8 replies" in failed(*judge)[1]


@pytest.mark.parametrize(
    ("golden", "said"),
    [
        (None, "golden.jsonl: no such file"),
        ('{"query": "question 1", "task": "t", "outcomes": {"small": {"quality": null}}}', "holds no judged answer"),
        ('{"query": "else", "task": "t", "outcomes": {"small": {"quality": 1}}}', "shares no answer"),
    ],
)
def test_a_golden_file_that_cannot_be_compared_with_is_refused_before_money_is_spent(
    outcomes: str, provider: FakeProvider, golden: str | None, said: str
) -> None:
    if golden is not None:
        Path("golden.jsonl").write_text(golden + "\n")
    _, err = failed("label", outcomes, "--out", "j.jsonl", "--judge", "judge", "--golden", "golden.jsonl")
    assert said in err
    assert not provider.requests


@pytest.mark.slow
def test_the_judge_does_not_write_into_the_golden_file(outcomes: str, provider: FakeProvider) -> None:
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}q")
    before = Path("golden.jsonl").read_text()
    _, err = failed("label", outcomes, "--out", "golden.jsonl", "--judge", "judge", "--golden", "golden.jsonl")
    assert "name another file for the judge's" in err
    assert Path("golden.jsonl").read_text() == before
    assert not provider.requests


def test_a_run_that_did_not_reach_the_golden_answers_says_so_and_keeps_its_figures(
    outcomes: str, provider: FakeProvider
) -> None:
    provider.always(answer("5"))
    Path("golden.jsonl").write_text('{"query": "question 5", "task": "t", "outcomes": {"small": {"quality": 1}}}\n')
    arguments = ("label", outcomes, "--out", "j.jsonl", "--judge", "judge", "--golden", "golden.jsonl", "--limit", "1")
    done = run(*arguments, "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["judged"], told["agreement"]) == (2, None)
    assert "judged none of the answers in golden.jsonl yet" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_rows_tell_their_draw_which_is_the_same_whenever_it_was_stopped(outcomes: str) -> None:
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}" * 6)
    at_once = {row["query"]: row["draw"] for row in rows()}
    Path("golden.jsonl").unlink()
    for _ in range(3):
        run("label", outcomes, "--out", "golden.jsonl", "--limit", "2", keys=f"a{ENTER}" * 2)
    assert {row["query"]: row["draw"] for row in rows()} == at_once
    at_random = [row["draw"] for row in rows() if row["picked"] == "random"]
    assert at_random == sorted(at_random), "the random order goes on where it stopped"


@pytest.mark.slow
def test_what_was_judged_for_being_hard_counts_in_the_sample_when_its_turn_comes(outcomes: str) -> None:
    def sample() -> list[dict[str, Any]]:
        reached = max(row["draw"] for row in rows() if row["picked"] == "random")
        return [row for row in rows() if row["draw"] <= reached]

    shown = run("label", outcomes, "--out", "golden.jsonl", "--limit", "4", "--seed", "3", keys=f"a{ENTER}" * 4)
    assert {row["picked"] == "random" for row in sample()} == {True, False}
    said = f"4 queries judged, in golden.jsonl; {len(sample())} of all there are a random sample"
    assert said in " ".join(shown.stderr.split())
    told = run("label", outcomes, "--out", "golden.jsonl", "--seed", "3", "--json", keys=f"a{ENTER}" * 2)
    assert json.loads(told.stdout.splitlines()[-1])["random_sample"] == len(sample())


@pytest.mark.slow
def test_another_seed_than_the_one_that_a_file_was_begun_with_is_refused(
    outcomes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("label", outcomes, "--out", "golden.jsonl", "--seed", "3", "--limit", "1", keys=f"a{ENTER}")
    assert main(["label", outcomes, "--out", "golden.jsonl"]) == 2
    assert "golden.jsonl: was begun with another --seed" in capsys.readouterr().err
    assert (
        run("label", outcomes, "--out", "golden.jsonl", "--seed", "3", "--limit", "1", keys=f"a{ENTER}").exit_code == 0
    )
    assert len(rows()) == 2


@pytest.mark.slow
def test_queries_of_other_outcomes_than_those_that_are_named_are_refused(
    outcomes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("label", outcomes, "--out", "golden.jsonl", "--limit", "1", keys=f"a{ENTER}")
    Path("other.jsonl").write_text('{"query": "new", "outcomes": {"small": {"quality": null, "response": "x"}}}\n')
    assert main(["label", "other.jsonl", "--out", "golden.jsonl"]) == 2
    assert "golden.jsonl: holds queries of other outcomes; name these too" in capsys.readouterr().err
    run("label", outcomes, "other.jsonl", "--out", "golden.jsonl", keys=f"a{ENTER}" * 6)
    assert len(rows()) == 7
    assert len({row["drawn_from"] for row in rows()}) == 2, "the outcomes have grown"


@pytest.mark.slow
def test_a_file_whose_rows_tell_no_draw_goes_on_without_a_random_sample(outcomes: str) -> None:
    run("label", outcomes, "--out", "golden.jsonl", "--limit", "2", keys=f"a{ENTER}" * 2)
    Path("golden.jsonl").write_text(
        "".join(json.dumps({k: v for k, v in row.items() if k != "draw"}) + "\n" for row in rows())
    )
    shown = run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}" * 4)
    assert len(rows()) == 6
    assert "golden.jsonl holds no random sample" in " ".join(shown.stderr.split())


@pytest.mark.slow
def test_agreement_is_told_on_the_random_sample_as_well(outcomes: str, provider: FakeProvider) -> None:
    # The judge calls everything good; the person calls good what is in the sample.
    provider.always(answer("10"))
    with Path("golden.jsonl").open("w") as file:
        for number, (picked, drawn) in enumerate([("rare", 0.2), ("random", 0.5), ("rare", 0.8), ("rare", 0.9)]):
            cells = {"small": {"quality": float(drawn <= 0.5)}}
            row = {"query": f"question {number}", "task": "t", "picked": picked, "draw": drawn, "outcomes": cells}
            file.write(json.dumps(row) + "\n")
    arguments = ("label", outcomes, "--out", "judged.jsonl", "--judge", "judge", "--golden", "golden.jsonl")
    told = json.loads(run(*arguments, "--json").stdout)["agreement"]
    assert (told["same"]["hits"], told["same"]["n"]) == (2, 4)
    assert (told["random_sample"]["same"]["hits"], told["random_sample"]["same"]["n"]) == (2, 2)
    shown = " ".join(run(*arguments).stdout.split())
    assert "random sample, which tells of all queries" in shown
    assert "100.0%" in shown
    assert "all that both judged, the hard ones among them" in shown
    # Without draws it is said that the figures may not hold for all queries.
    Path("golden.jsonl").write_text(Path("golden.jsonl").read_text().replace('"draw"', '"other"'))
    told = json.loads(run(*arguments, "--json").stdout)["agreement"]
    assert told["random_sample"] is None
    assert "no random sample" in " ".join(run(*arguments).stdout.split())


@pytest.fixture
def two_tasks() -> str:
    """One query in two tasks, whose answers are right in the one and wrong in the other."""
    with Path("tasks.jsonl").open("w") as file:
        for task in ("right", "wrong"):
            cells = {"small": {"quality": None, "response": f"{task} answer"}}
            file.write(json.dumps({"query": "What is it?", "task": task, "outcomes": cells}) + "\n")
    return "tasks.jsonl"


@pytest.mark.slow
def test_the_same_query_of_two_tasks_is_judged_in_each_whenever_it_was_stopped(two_tasks: str) -> None:
    for _ in range(3):
        run("label", two_tasks, "--out", "golden.jsonl", "--limit", "1", keys=f"a{ENTER}")
    assert sorted(row["task"] for row in rows()) == ["right", "wrong"]


def test_agreement_compares_answers_of_the_same_task(two_tasks: str, provider: FakeProvider) -> None:
    provider.always(lambda request: answer("10" if "right answer" in request.body["messages"][1]["content"] else "0"))
    with Path("golden.jsonl").open("w") as file:
        for task, quality in (("wrong", 0.0), ("right", 1.0)):
            cells = {"small": {"quality": quality}}
            file.write(json.dumps({"query": "What is it?", "task": task, "outcomes": cells}) + "\n")
    arguments = ("label", two_tasks, "--out", "judged.jsonl", "--judge", "judge", "--golden", "golden.jsonl", "--json")
    run(*arguments[:6], "--limit", "1")
    told = json.loads(run(*arguments).stdout)
    assert told["judged"] == 1, "the other task was judged before"
    assert (told["agreement"]["same"]["hits"], told["agreement"]["same"]["n"]) == (2, 2)


def with_third(outcomes: str) -> None:
    """A third model has answered by now."""
    with Path(outcomes).open("a") as file:
        for number in range(6):
            cells = {"third": {"quality": None, "response": f"third {number}"}}
            file.write(json.dumps({"query": f"question {number}", "task": "t", "outcomes": cells}) + "\n")


@pytest.mark.slow
def test_answers_of_a_model_that_came_later_are_judged_and_the_others_not_again(
    outcomes: str, provider: FakeProvider
) -> None:
    provider.always(answer("5"))
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}" * 6)
    judge = ("label", outcomes, "--out", "judged.jsonl", "--judge", "judge", "--json")
    run(*judge)
    with_third(outcomes)
    assert json.loads(run(*judge).stdout)["judged"] == 6
    assert len(provider.requests) == 18
    run("label", outcomes, "--out", "golden.jsonl", keys=f"a{ENTER}" * 6)
    assert [set(row["outcomes"]) for row in rows()] == [{"small", "large"}] * 6 + [{"third"}] * 6
    for path in ("golden.jsonl", "judged.jsonl"):
        assert read_outcomes(path).is_complete.all()
        assert read_outcomes(path).findings == ()


@pytest.mark.slow
def test_an_answer_that_the_judge_did_not_grade_is_asked_about_again(outcomes: str, provider: FakeProvider) -> None:
    provider.always(lambda request: answer("well" if "small says 5" in request.body["messages"][1]["content"] else "5"))
    judge = ("label", outcomes, "--out", "judged.jsonl", "--judge", "judge", "--json")
    assert json.loads(run(*judge).stdout)["without_grade"] == 1
    provider.always(answer("5"))
    assert json.loads(run(*judge).stdout)["judged"] == 1
    assert read_outcomes("judged.jsonl").is_complete.all()


@pytest.mark.slow
def test_of_more_answers_than_the_screen_holds_a_person_judges_some_and_is_done() -> None:
    cells = {f"model {number}": {"quality": None, "response": f"answer {number}"} for number in range(12)}
    Path("many.jsonl").write_text(json.dumps({"query": "q", "outcomes": cells}) + "\n")
    for _ in range(2):
        run("label", "many.jsonl", "--out", "golden.jsonl", keys=f"a{ENTER}")
    assert [len(row["outcomes"]) for row in rows()] == [9]


@pytest.mark.slow
def test_without_a_terminal_it_says_so(outcomes: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "semroute.cli.main", "label", outcomes, "--out", "golden.jsonl"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert done.stdout == "", "nothing is drawn before"


def test_what_cannot_be_done_is_said(outcomes: str, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str) -> str:
        assert main(["label", *arguments]) == 2
        return capsys.readouterr().err

    assert "name another file" in error(outcomes, "--out", outcomes)
    Path("plain.jsonl").write_text('{"query": "q", "outcomes": {"m": {"quality": 1}}}\n')
    assert 'hold no "response"' in error("plain.jsonl", "--out", "golden.jsonl")
    assert 'no deployment serves the judge "judge"' in error(outcomes, "--out", "golden.jsonl", "--judge", "judge")
    assert "go with --judge" in error(outcomes, "--out", "golden.jsonl", "--golden", "x.jsonl")

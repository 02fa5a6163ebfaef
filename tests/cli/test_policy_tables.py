from __future__ import annotations

from dataclasses import replace

import pytest
from evaluate.study_outcomes import made_up
from rich.console import Console

from semroute.cli.policy_tables import comparison, policies_table, study_headline
from semroute.evaluate.comparison import run_study
from semroute.evaluate.comparison_results import ComparisonPlan, Policies, Study
from semroute.evaluate.metrics import Interval


@pytest.fixture(scope="module")
def study() -> Study:
    costs, vectors, chance = made_up(200)
    return run_study(
        costs, Policies(predictions={"truth": chance}), ComparisonPlan(resamples=100, points=9), vectors=vectors
    )


def _shown(part: object) -> str:
    console = Console(width=80, highlight=False)
    with console.capture() as capture:
        console.print(part)
    return capture.get()


def test_intervals_that_have_no_room_are_cut_at_their_comma_and_no_number_is(study: Study) -> None:
    wide, far = Interval(-1.234, -1.345, 1.456), Interval(-12.34, -34.567, 23.456)
    figures = replace(study.subject.figures, aiq=wide, aiq_gain=wide, arena=wide, perf_gain=far, cost_save=far)
    shown = _shown(policies_table(replace(study, policies=(replace(study.subject, figures=figures),))))
    words = shown.split()
    for number in ("-1.234", "-1.345,", "1.456", "+1.456", "-1234.0%", "-3456.7,", "2345.6", "+2345.6"):
        assert number in words, number
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_long_names_of_tasks_and_models_are_folded_at_their_parts(study: Study) -> None:
    subject = study.subject
    (_, of), *others = subject.predictions.items()
    predictions = {"llama-3.1-nemotron-ultra-253b-instruct-preview": of, **dict(others)}
    tasks = (replace(subject.tasks[0], task="high_school_government_and_politics", n=12_345), *subject.tasks[1:])
    named = replace(subject, tasks=tasks, predictions=predictions)
    lines = "\n".join(map(_shown, comparison(replace(study, policies=(named,)), None, []))).splitlines()
    for name in ("high_school_government_and_politics", "llama-3.1-nemotron-ultra-253b-instruct-preview"):
        place = next(number for number, line in enumerate(lines) if line.startswith(name[:12]))
        first, rest = lines[place].split()[0], lines[place + 1].strip()
        assert first[-1] in "_-"
        assert first + rest == name
        assert lines[place + 1] == f"  {rest}"
    assert max(map(len, lines)) <= 80


def test_the_best_single_model_says_that_it_was_chosen_on_other_folds(study: Study) -> None:
    (model,) = study.best_shares
    assert f"{model}, quality {study.best_quality.value:.3f}" in _shown(study_headline(study))
    mixed = replace(study, best_shares={"large": 0.8, "small": 0.2})
    words = " ".join(_shown(study_headline(mixed)).split())
    assert "the best model of the other folds, chosen anew for each fold (large for 80.0%, small for 20.0%" in words
    assert "the best of the table" in words

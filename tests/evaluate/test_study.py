from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluate.study_outcomes import MODELS, logged, made_up

from semroute.errors import InputError
from semroute.evaluate.comparison import mixing, run_study
from semroute.evaluate.comparison_results import CLUSTERS, LENGTH, ORACLE, TASKS, ComparisonPlan, Policies, Study
from semroute.evaluate.offpolicy import select

PLAN = ComparisonPlan(resamples=200, points=15)


@pytest.fixture(scope="module")
def study() -> Study:
    costs, vectors, chance = made_up()
    return run_study(costs, Policies(predictions={"truth": chance}), PLAN, vectors=vectors)


def _policy(study: Study, name: str) -> object:
    return next(policy for policy in study.policies if policy.name == name)


def test_the_subject_stands_before_the_baselines(study: Study) -> None:
    assert [policy.name for policy in study.policies] == ["truth", LENGTH, TASKS, CLUSTERS, ORACLE]
    assert study.subject.name == "truth"
    assert [policy.is_subject for policy in study.policies] == [True, False, False, False, False]


def test_the_models_have_their_roles_and_figures(study: Study) -> None:
    assert (study.roles.cheapest, study.roles.strongest, study.roles.pair) == (0, 1, (0, 1))
    assert study.quality["small"].value == pytest.approx(0.59, abs=0.05)
    assert study.cost["large"].value == pytest.approx(0.010)
    assert study.best_quality.value == study.quality["large"].value
    costs, qualities = mixing(study)
    np.testing.assert_allclose(costs, [0.001, 0.010], rtol=1e-6)
    np.testing.assert_allclose(qualities, [study.quality[model].value for model in MODELS])
    # Of two models the zero router has nothing else to mix.
    assert study.mixing_aiq == study.zero_aiq
    assert study.mixing_aiq.value == pytest.approx(qualities.mean())


def test_good_predictions_keep_quality_and_save_money(study: Study) -> None:
    figures = study.subject.figures
    # Half of the queries go to the model of a tenth of the price.
    assert figures.cost_save.value == pytest.approx(0.45, abs=0.06)
    assert figures.aiq_gain.low > 0.05
    assert figures.pareto_distance.value < 0.1
    point = study.subject.curve
    assert point.quality[0, figures.matching] >= study.best_quality.value


def test_uninformative_predictions_gain_nothing(study: Study) -> None:
    length = _policy(study, LENGTH)
    assert length.pair.apgr.low < 0.5 < length.pair.apgr.high
    assert length.pair.apgr_gain is None
    assert length.figures.aiq_gain.value < 0.03


def test_clusters_learn_the_topic_that_length_does_not_show(study: Study) -> None:
    clusters = _policy(study, CLUSTERS)
    assert clusters.pair.apgr_gain.low > 0.1
    assert clusters.figures.aiq_gain.low > 0.05
    assert clusters.predictions["small"].auroc.low > 0.75


def test_nothing_is_better_than_the_oracle(study: Study) -> None:
    oracle = _policy(study, ORACLE)
    assert oracle.figures.aiq.value == max(policy.figures.aiq.value for policy in study.policies)
    assert oracle.predictions == {}


def test_true_probabilities_are_calibrated(study: Study) -> None:
    assert study.subject.predictions["small"].ece.value < 0.06
    assert study.subject.predictions["small"].auroc.value == pytest.approx(0.9, abs=0.05)


def test_tasks_add_up_to_the_whole(study: Study) -> None:
    tasks = study.subject.tasks
    assert [task.task for task in tasks] == ["task 0", "task 1", "task 2"]
    whole = sum(task.quality * task.n for task in tasks) / study.n
    assert whole == pytest.approx(study.subject.curve.quality[0, study.subject.figures.matching])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_study(study: Study) -> None:
    costs, vectors, chance = made_up()
    again = run_study(costs, Policies(predictions={"truth": chance}), PLAN, vectors=vectors)
    for one, other in zip(study.policies, again.policies, strict=True):
        np.testing.assert_array_equal(one.curve.quality, other.curve.quality)
        assert one.figures == other.figures


@pytest.mark.slow
def test_without_vectors_there_are_no_clusters_and_baselines_can_be_picked() -> None:
    costs, _, _ = made_up(100)
    assert [p.name for p in run_study(costs, Policies(), PLAN).policies] == [LENGTH, TASKS, ORACLE]
    picked = run_study(costs, Policies(baselines=frozenset([LENGTH])), PLAN)
    assert [policy.name for policy in picked.policies] == [LENGTH]
    assert picked.subject.name == LENGTH


@pytest.mark.slow
def test_unseen_tasks_have_no_task_table_and_no_training_duplicates() -> None:
    costs, vectors, _ = made_up(120)
    table = costs.table
    queries = ["the same query", *table.queries[1:-1], "The same  query"]
    costs = replace(costs, table=replace(table, queries=queries))
    found = run_study(costs, Policies(), replace(PLAN, leave_tasks_out=True), vectors=vectors)
    assert [policy.name for policy in found.policies] == [LENGTH, CLUSTERS, ORACLE]
    assert found.dropped == 2
    assert found.duplicates.same_text == 2


@pytest.mark.slow
def test_a_log_of_one_model_a_query_is_judged_without_bias() -> None:
    costs, vectors, chance = made_up(6000)
    table = costs.table
    known = logged(table)
    selected = select(known)
    assert selected.method == "doubly robust"
    policies = Policies(predictions={"truth": chance})
    found = run_study(replace(costs, table=known), policies, PLAN, vectors=vectors, method=selected.method)
    whole = run_study(costs, policies, PLAN, vectors=vectors)
    assert ORACLE not in [policy.name for policy in found.policies]
    naive = [np.nanmean(known.quality[:, column]) for column in (0, 1)]
    for model, guess in zip(MODELS, naive, strict=True):
        estimate = found.quality[model]
        assert estimate.low < whole.quality[model].value < estimate.high
        assert estimate.high - estimate.low > whole.quality[model].high - whole.quality[model].low
        assert np.isfinite(guess)
    end = found.subject.curve.quality[:, -1]
    low, high = np.quantile(end[1:], [0.001, 0.999])
    assert low < whole.subject.curve.quality[0, -1] < high
    estimates = found.subject.estimates
    assert set(estimates) == {"IPS", "SNIPS", "DR"}
    assert estimates["DR"].error < estimates["IPS"].error
    assert estimates["IPS"].mean_weight == pytest.approx(1, abs=0.1)
    assert whole.subject.estimates == {}


def test_ties_everywhere_have_no_gap_and_nothing_to_gain() -> None:
    costs, _, _ = made_up(60)
    same = replace(costs.table, quality=np.ones_like(costs.table.quality))
    found = run_study(replace(costs, table=same), Policies(), PLAN)
    length = found.policies[0]
    assert np.isnan(length.pair.apgr.value)
    # The best single model is then the cheaper one, and nothing is cheaper.
    assert length.figures.cost_save.value == pytest.approx(0.0)
    assert length.needed.for_interval is None


def test_free_models_have_quality_and_no_area() -> None:
    costs, _, _ = made_up(60)
    free = replace(costs.table, cost=np.zeros_like(costs.table.cost))
    found = run_study(replace(costs, table=free), Policies(), PLAN)
    assert np.isnan(found.policies[0].figures.aiq.value)
    assert np.isnan(found.policies[0].figures.cost_save.value)
    assert found.policies[0].pair.apgr.value > 0


@pytest.mark.slow
def test_ten_rows_are_enough_for_wide_intervals_and_three_are_too_few() -> None:
    costs, _, _ = made_up(10)
    found = run_study(costs, Policies(), PLAN)
    assert found.quality["small"].high - found.quality["small"].low > 0.3
    few, _, _ = made_up(3)
    with pytest.raises(InputError, match="3 different queries cannot be split into 5 folds"):
        run_study(few, Policies(), PLAN)


@pytest.mark.slow
def test_progress_is_reported() -> None:
    costs, _, _ = made_up(60)
    told: list[tuple[str, int, int]] = []
    run_study(costs, Policies(), PLAN, progress=lambda *step: told.append(step))
    assert told[-1] == ("replaying", 3, 3)
    assert ("fitting", 2, 2) in told

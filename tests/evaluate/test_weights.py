from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluate.study_outcomes import logged, made_up

from semroute.errors import InputError
from semroute.evaluate.offpolicy import PropensityFindings, check_propensities, probabilities, select
from semroute.outcomes.table import OutcomeTable


def _drawn(n: int, share: float, *, seed: int = 0, told: float | None = None) -> OutcomeTable:
    """``large`` is asked of a share of the queries, ``small`` of the others; ``told`` is the share that is told."""
    table = made_up(n)[0].table
    asked = np.random.default_rng(seed).random(n) < share
    known = np.column_stack([~asked, asked])
    told = share if told is None else told
    return replace(
        table,
        quality=np.where(known, table.quality, np.nan).astype(np.float32),
        probability=np.where(known, [1 - told, told], np.nan).astype(np.float32),
    )


def _findings(table: OutcomeTable) -> PropensityFindings:
    return check_propensities(table, probabilities(table))


@pytest.mark.parametrize("n", [2, 10, 400])
def test_propensities_of_a_fixed_rule_are_refused(n: int) -> None:
    table = made_up(n)[0].table
    known = np.column_stack([np.arange(n) % 2 == 0, np.arange(n) % 2 == 1])
    fixed = replace(
        table,
        quality=np.where(known, table.quality, np.nan).astype(np.float32),
        probability=np.where(known, 1, np.nan).astype(np.float32),
    )
    with pytest.raises(InputError, match=r'cannot be estimated: "small" .*"large" .*trial\.share.*--models'):
        select(fixed)
    if n > 2:
        assert "fixed rule" in _findings(fixed).refused[0]
        assert f"{n // 2} of {n} rows have no answer of it" in _findings(fixed).refused[1]


def test_only_complete_rows_are_selected_if_the_others_came_from_a_fixed_rule() -> None:
    table = made_up(40)[0].table
    quality = table.quality.copy()
    quality[20:30, 0] = quality[30:, 1] = np.nan
    probability = np.where(np.isfinite(quality), 1, np.nan).astype(np.float32)
    selected = select(replace(table, quality=quality, probability=probability))
    assert (selected.method, selected.rows.tolist(), selected.left_out) == ("complete rows", list(range(20)), 20)
    (warning,) = selected.warnings
    assert '"small" was chosen by a fixed rule' in warning
    assert "only complete ones are used" in warning


@pytest.mark.parametrize("told", [0.1, 0.2, 0.8])
def test_propensities_far_from_the_true_ones_are_refused(told: float) -> None:
    with pytest.raises(
        InputError, match=r'"large" was not chosen with the recorded probabilities.* mean weight is \d\.\d\d'
    ):
        select(_drawn(2000, 0.5, told=told))


def test_propensities_slightly_off_warn_with_the_model() -> None:
    selected = select(_drawn(4000, 0.5, told=0.45))
    assert selected.method == "doubly robust"
    assert [warning.split('"')[1] for warning in selected.warnings] == ["small", "large"]
    assert "its mean weight is 1.1" in selected.warnings[1]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_propensities_of_a_random_share_are_rarely_refused(share: float) -> None:
    # The test of the weights errs by chance, so that what can be held is its rate, over draws that are always the same.
    refused = sum(bool(_findings(_drawn(500, share, seed=seed)).refused) for seed in range(60))
    assert refused <= 1


@pytest.mark.slow
def test_few_logs_with_true_propensities_cause_warnings() -> None:
    tables = [logged(made_up(300)[0].table, seed=seed) for seed in range(200)]
    assert sum(bool(_findings(table).warned) for table in tables) <= 6


def test_repeated_queries_count_as_one_draw() -> None:
    table = _drawn(40, 0.5, seed=4)
    rows = np.repeat(np.arange(40), 50)
    # Of 40 draws that fell as these did, none is far off; 2,000 of them would be.
    weight = np.where(np.isfinite(table.quality[:, 1]), 2, 0)
    assert abs(weight.mean() - 1) > 3 / np.sqrt(2000)
    assert _findings(table.take(rows)).refused == _findings(table).refused == ()
    assert not any("mean weight" in warning for warning in _findings(table.take(rows)).warned)


def test_a_model_with_few_answers_is_warned_of_and_with_one_refused() -> None:
    table = _drawn(400, 0.5)
    third = np.full((400, 1), np.nan, np.float32)

    def known_for(count: int) -> OutcomeTable:
        cells, chance = third.copy(), third.copy()
        cells[:count], chance[:count] = 1, count / 400
        arrays = {name: np.hstack([getattr(table, name), third]) for name in ("cost", "latency")}
        return replace(
            table,
            models=(*table.models, "third"),
            quality=np.hstack([table.quality, cells]),
            probability=np.hstack([table.probability, chance]),
            **arrays,
        )

    assert _findings(known_for(60)) == PropensityFindings((), ())
    assert "worth 40 equally likely ones" in _findings(known_for(40)).warned[0]
    assert _findings(known_for(5)).warned == ('"third" has answers to 5 queries only: its intervals are too narrow',)
    assert _findings(known_for(1)).refused == ('"third" has answers to 1 of 400 queries',)
    assert _findings(known_for(0)).refused == ('"third" has answers to 0 of 400 queries',)


def test_complete_rows_and_models_have_no_findings() -> None:
    table = made_up(3)[0].table
    assert _findings(table) == PropensityFindings((), ())
    quality = table.quality.copy()
    quality[0, 1] = np.nan
    assert [text.split('"')[1] for text in _findings(replace(table, quality=quality)).refused] == ["large"]


@pytest.mark.parametrize(("share", "kind"), [(0.3, "refused"), (0.02, "warned")])
def test_models_without_a_chance_of_being_drawn_are_found(share: float, kind: str) -> None:
    """As of a trial whose two policies name the same model for some of the queries."""
    table = _drawn(2000, 0.5)
    settled = np.arange(2000) < share * 2000
    quality, probability = table.quality.copy(), table.probability.copy()
    quality[settled] = [1.0, np.nan]
    probability[settled] = [1.0, np.nan]
    found = _findings(replace(table, quality=quality, probability=probability))
    said = [words for words in getattr(found, kind) if '"large" could not be drawn' in words]
    assert len(said) == 1
    assert f"{share:.1%} of the rows" in said[0]
    assert not any('"small" could not' in words for words in (*found.refused, *found.warned))

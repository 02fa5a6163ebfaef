from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from evaluate.logged import call, climbed, outcome

from semroute.errors import InputError
from semroute.evaluate.drift import FITS, Compared, DriftBaseline, drift
from semroute.evaluate.log_report import LogReport, report
from semroute.evaluate.metrics import Interval
from semroute.render import plots
from semroute.render.pages import report_page, write_report_page

BASELINE = {"baseline_model": "large", "baseline_usd": 1.0}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def made() -> LogReport:
    plain = [climbed(0.1, hours=place, category="<b>cooking</b>", **BASELINE) for place in range(60)]
    return report([*plain, *(climbed(0.1, 1.0, hours=place, latency_ms=900.0, **BASELINE) for place in range(10))])


@pytest.mark.slow
def test_the_page_needs_no_network_and_escapes_foreign_names(made: LogReport) -> None:
    text = report_page(made, title="all queries")
    assert "http" not in text.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
        "http://creativecommons.org/", ""
    ).replace("https://matplotlib.org/", "")
    assert "<script" not in text
    assert "<b>cooking" not in text
    assert "&lt;b&gt;cooking&lt;/b&gt;" in text


@pytest.mark.slow
def test_the_page_shows_the_saving_the_split_and_the_warning(made: LogReport) -> None:
    text = report_page(made, title="all queries")
    assert made.saving.share is not None
    assert f"{made.saving.share.value:.1%}" in text
    for words in ("not escalated", "rejected answers", "9.0 times as slow", "is taken to use the tokens"):
        assert words in text
    assert text.count("<svg") == 4


@pytest.mark.slow
def test_the_page_has_a_table_of_efforts_only_where_one_was_asked_for(made: LogReport) -> None:
    assert "By reasoning effort" not in report_page(made, title="all queries")
    text = report_page(report([outcome(call("large", 0.5, effort="high"))]), title="all queries")
    assert "<td>large at high effort</td><td>1</td><td>10</td><td>0.5000</td>" in text


@pytest.mark.slow
@pytest.mark.parametrize("outcomes", [[], [outcome(model=None, error_kind="TimedOutError")], [climbed(0.1)]])
def test_a_log_with_hardly_anything_makes_a_page(outcomes: list[object]) -> None:
    assert "<h1>Report: law</h1>" in report_page(report(outcomes), title="law")  # type: ignore[arg-type]


@pytest.mark.slow
def test_pictures_are_well_formed_and_the_same_each_time(made: LogReport) -> None:
    for draw in (plots.spending, plots.by_day, plots.times, plots.escalation):
        first = draw(made)
        assert first is not None
        assert ElementTree.fromstring(first).tag == f"{SVG}svg"
        assert draw(made) == first


@pytest.mark.slow
def test_a_million_points_are_thinned_to_a_page() -> None:
    made = report(climbed(0.1, hours=place / 10, **BASELINE) for place in range(5000))
    assert len(report_page(made, title="x")) < 500_000


@pytest.mark.slow
def test_a_page_that_cannot_be_written_leaves_nothing(made: LogReport, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_report_page(made, target, title="x")
    assert target.read_text("utf-8").startswith("<!doctype html>")
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_report_page(made, folder, title="x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "taken"]


def compared(scores: np.ndarray, price: float) -> Compared:
    """A policy tuned on scores about 0.5, and what came since."""
    then = DriftBaseline.of(
        np.random.default_rng(0).normal(0.5, 0.1, 500),
        np.zeros(500, np.bool_),
        Interval(0.9, 0.88, 0.92),
        Interval(0.002, 0.0018, 0.0022),
        {"large<i>": (5.0, 15.0)},
        thresholds={"code": 0.37},
        index="a",
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    prices = {"large<i>": (price, 15.0)}
    return Compared(then, drift(then, scores, scores < 0.2, [1.0, 0.0], [0.002], prices, index="a"))


@pytest.mark.slow
def test_the_page_shows_drift_and_warns_to_tune_again(made: LogReport) -> None:
    found = compared(np.random.default_rng(1).normal(0.2, 0.1, 300), 2.0)
    assert len(found.found.reasons) >= 3
    text = report_page(made, title="x", drift=found)
    for reason in found.found.reasons:
        assert f'class="warning">tune the policy again: {reason}'.replace("<i>", "&lt;i&gt;") in text
    for cells in found.rows():
        for cell in cells:
            assert cell.replace("<i>", "&lt;i&gt;") in text
    assert FITS not in text


@pytest.mark.slow
def test_the_page_shows_the_drift_result_only_for_a_named_policy(made: LogReport) -> None:
    assert FITS in report_page(made, title="x", drift=compared(np.random.default_rng(1).normal(0.5, 0.1, 300), 5.0))
    assert "tuned on" not in report_page(made, title="x")

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from evaluate.study_outcomes import logged, made_up

from semroute.errors import InputError, MissingExtraError
from semroute.evaluate.comparison import run_study
from semroute.evaluate.comparison_results import ComparisonPlan, Policies, Study
from semroute.evaluate.metrics import Interval
from semroute.render.pages import figure, policy_page, span, write_policy_page

PLAN = ComparisonPlan(resamples=100, points=9)


@pytest.fixture(scope="module")
def study() -> Study:
    costs, vectors, chance = made_up(200)
    return run_study(costs, Policies(predictions={"truth": chance}), PLAN, vectors=vectors)


class _Reader(HTMLParser):
    """Text, and every address that the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        for name in ("src", "href", "xlink:href"):
            if found.get(name) and not str(found[name]).startswith("#"):
                self.fetched.append(str(found[name]))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    return reader


@pytest.mark.slow
def test_the_page_holds_all_figures_and_needs_no_network(study: Study) -> None:
    text = policy_page(study, None, title="my outcomes", notes=["costs are estimates"])
    reader = _read(text)
    words = " ".join(reader.words)
    assert reader.fetched == []
    assert "<script" not in text
    for policy in study.policies:
        assert policy.name in words
        assert figure(policy.figures.aiq) in words
        assert span(policy.pair.apgr) in words
    for name in ("my outcomes", "costs are estimates", "task 2", "small", "CPT(50%)", "AUROC", "zero router"):
        assert name in words
    assert text.count("<svg") == 1


@pytest.mark.slow
def test_every_figure_is_explained_with_its_source(study: Study) -> None:
    text = policy_page(study, None, title="", notes=[])
    part = text[text.index("What the figures mean") :]
    for name in ("AIQ", "zero router", "PerfGain", "CostSave", "ParetoDist", "arena", "APGR", "CPT(50%)", "AUROC", "-"):
        assert f"<dt>{name}</dt>" in part
    for source in ("2403.12031", "2601.07206", "2510.00202", "2406.18665"):
        assert f"arXiv:{source}" in part


@pytest.mark.slow
def test_the_best_single_model_is_shown_with_its_selection(study: Study) -> None:
    words = " ".join(" ".join(_read(policy_page(study, None, title="", notes=[])).words).split())
    (model,) = study.best_shares
    assert f"chosen anew for each fold ({model} for 100.0% of the queries)" in words


@pytest.mark.slow
def test_unseen_tasks_have_their_own_part(study: Study) -> None:
    text = policy_page(study, study, title="", notes=[])
    assert "Tasks that were never seen" in text
    assert text.count("<svg") == 2


@pytest.mark.slow
def test_text_from_files_is_escaped(study: Study) -> None:
    odd = replace(study, models=("<b>small</b>", "large"))
    odd = replace(odd, quality=dict(zip(odd.models, study.quality.values(), strict=True)))
    odd = replace(odd, cost=dict(zip(odd.models, study.cost.values(), strict=True)))
    text = policy_page(odd, None, title="<script>alert(1)</script>", notes=["<i>"])
    assert "<b>small" not in text
    assert "<script>" not in text
    assert "<i>" not in text


@pytest.mark.slow
def test_estimates_of_incomplete_rows_are_shown() -> None:
    costs, _, chance = made_up(300)
    costs = replace(costs, table=logged(costs.table))
    found = run_study(costs, Policies(predictions={"truth": chance}), PLAN, method="doubly robust")
    words = " ".join(_read(policy_page(found, None, title="", notes=[])).words)
    assert "SNIPS" in words
    assert "doubly robust" in words


def test_a_figure_that_is_not_defined_is_a_dash() -> None:
    nan = float("nan")
    assert (figure(Interval(nan, nan, nan)), span(Interval(nan, nan, nan))) == ("-", "")
    assert figure(Interval(0.123, 0.1, 0.2), sign=True, share=True) == "+12.3%"
    assert span(Interval(0.123, 0.1, 0.2)) == "0.100 to 0.200"


@pytest.mark.slow
def test_a_page_that_cannot_be_written_is_named(study: Study, tmp_path: Path) -> None:
    write_policy_page(study, None, tmp_path / "p.html", title="", notes=[])
    assert (tmp_path / "p.html").read_text("utf-8").startswith("<!doctype html>")
    with pytest.raises(InputError, match="nowhere"):
        write_policy_page(study, None, tmp_path / "nowhere" / "p.html", title="", notes=[])


@pytest.mark.slow
def test_without_jinja_the_extra_is_named(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"semroute-router\[report\]"):
        policy_page(study, None, title="", notes=[])

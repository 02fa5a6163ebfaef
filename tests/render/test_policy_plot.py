from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from evaluate.study_outcomes import made_up

from semroute.errors import InputError, MissingExtraError
from semroute.evaluate.comparison import run_study
from semroute.evaluate.comparison_results import ComparisonPlan, Policies, Study
from semroute.render.plots import drawn, plot_study, svg


@pytest.fixture(scope="module")
def study() -> Study:
    costs, vectors, chance = made_up(200)
    return run_study(
        costs, Policies(predictions={"truth": chance}), ComparisonPlan(resamples=100, points=9), vectors=vectors
    )


@pytest.mark.slow
def test_png_and_svg_are_written_by_the_files_name(study: Study, tmp_path: Path) -> None:
    plot_study(study, tmp_path / "c.png", title="a comparison")
    content = (tmp_path / "c.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(content[16:20], "big") >= 2000  # two panels
    plot_study(study, tmp_path / "c.SVG", title="a comparison")
    assert ElementTree.parse(tmp_path / "c.SVG").getroot().tag.endswith("svg")


@pytest.mark.slow
def test_a_pool_of_more_models_has_no_panel_for_a_pair(study: Study, tmp_path: Path) -> None:
    pool = replace(
        study,
        roles=replace(study.roles, pair=None),
        policies=tuple(replace(policy, pair=None) for policy in study.policies),
    )
    plot_study(pool, tmp_path / "c.png", title="")
    assert int.from_bytes((tmp_path / "c.png").read_bytes()[16:20], "big") < 2000


@pytest.mark.slow
def test_an_svg_element_is_deterministic_and_self_contained(study: Study) -> None:
    text = svg(study, title="")
    assert text == svg(study, title="")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "<script" not in text
    assert "src=" not in text


def _legends(study: Study) -> list[str]:
    """What is written into a picture; each text is a comment, before it is drawn as shapes."""
    return re.findall("<!-- (.*?) -->", svg(study, title=""))


@pytest.mark.slow
def test_a_hidden_line_has_no_legend_entry(study: Study) -> None:
    words = _legends(study)
    assert words.count("zero router: cheapest and strongest mixed") == 1, "with two models the two are one line"
    assert "zero router: models mixed" not in words
    assert "best single model, chosen on other folds" in words
    one, other, *_ = study.policies
    twin = replace(other, curve=one.curve)
    both = [f"{policy.name} (AIQ {policy.figures.aiq.value:.3f})" for policy in (one, twin)]
    assert both[0] in words
    again = _legends(replace(study, policies=(one, twin, *study.policies[2:])))
    assert ", ".join(both) in again
    assert both[0] not in again


@pytest.mark.slow
def test_the_two_panels_have_one_scale_of_quality(study: Study) -> None:
    cost, share = drawn(study, "").axes
    assert cost.get_ylim() == share.get_ylim()
    assert [axes.get_ylabel() for axes in (cost, share)] == ["mean quality", ""]


@pytest.mark.slow
def test_an_unwritable_file_is_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"c\.pdf: a plot is one of \.png, \.svg"):
        plot_study(study, tmp_path / "c.pdf", title="")
    with pytest.raises(InputError, match="nowhere"):
        plot_study(study, tmp_path / "nowhere" / "c.png", title="")


def test_without_matplotlib_the_extra_is_named(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"semroute-router\[plot\]"):
        svg(study, title="")

"""Policies as curves of quality over cost, in PNG or SVG; needs the extra "plot". Draws what others computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from semroute.evaluate.curves.hull import hull
from semroute.evaluate.plots.drawing import (
    COLOURS,
    GREY,
    check_format,
    new_figure,
    percent_axis,
    svg_element,
    without_frame,
    write,
)
from semroute.evaluate.study.results import ORACLE, PolicyResult, Study
from semroute.evaluate.study.study import mixing

_THOUSAND = 1000


def plot_study(study: Study, path: Path, *, title: str) -> None:
    """Write the curves of a comparison to a file.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither PNG nor SVG, or cannot be written.
    """
    check_format(path)
    write(_figure(study, title), path)


def svg(study: Study, *, title: str) -> str:
    """The curves as an ``<svg>`` element, to be put into a page; the same comparison gives the same text.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    return svg_element(_figure(study, title))


def _figure(study: Study, title: str) -> Any:
    has_pair = study.roles.pair is not None
    figure = new_figure(14 if has_pair else 9, 6)
    axes = figure.subplots(1, 2 if has_pair else 1, squeeze=False)[0]
    figure.suptitle(title)
    _cost_axes(axes[0], study)
    if has_pair:
        _share_axes(axes[1], study)
    return figure


def _cost_axes(axes: Any, study: Study) -> None:
    for colour, policy in zip(COLOURS, study.policies, strict=False):
        _curve(axes, policy, colour)
    costs = np.array([study.cost[model].value for model in study.models]) * _THOUSAND
    qualities = np.array([study.quality[model].value for model in study.models])
    axes.plot(costs, qualities, "o", color="black", markersize=5, zorder=4)
    _names(axes, study, costs, qualities)
    axes.plot(*hull(costs, qualities), color=GREY, linestyle="--", linewidth=1.2, label="zero router: models mixed")
    ends = mixing(study)
    label = "cheapest and strongest mixed"
    axes.plot(ends[0] * _THOUSAND, ends[1], color=GREY, linestyle=":", linewidth=1.2, label=label)
    axes.axhline(
        study.best_quality.value,
        color="black",
        linewidth=0.7,
        alpha=0.4,
        label="best single model, chosen on other folds",
    )
    axes.set(xlabel="USD for 1,000 queries", ylabel="mean quality")
    _tidy(axes)


def _curve(axes: Any, policy: PolicyResult, colour: str) -> None:
    cost, quality = policy.curve.cost * _THOUSAND, policy.curve.quality
    style = ":" if policy.name == ORACLE else "-"
    width = 2.4 if policy.is_subject else 1.5
    gain = policy.figures.aiq
    label = f"{policy.name} (AIQ {_number(gain.value)})"
    axes.plot(cost[0], quality[0], style, color=colour, linewidth=width, label=label, zorder=3)
    if policy.is_subject:
        low, high = np.quantile(quality[1:], [0.025, 0.975], axis=0)
        axes.fill_between(cost[0], low, high, color=colour, alpha=0.15, linewidth=0)


def _names(axes: Any, study: Study, costs: Any, qualities: Any) -> None:
    """Names beside the models' points, on the side where there is room."""
    middle = (costs.min() + costs.max()) / 2
    for model, cost, quality in zip(study.models, costs, qualities, strict=True):
        is_right = cost > middle
        axes.annotate(
            model,
            (cost, quality),
            xytext=(-6 if is_right else 6, -3),
            textcoords="offset points",
            ha="right" if is_right else "left",
            va="top",
            fontsize=7.5,
            color="#333333",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            zorder=5,
        )


def _share_axes(axes: Any, study: Study) -> None:
    assert study.roles.pair is not None
    weak, strong = (study.models[column] for column in study.roles.pair)
    for colour, policy in zip(COLOURS, study.policies, strict=False):
        if policy.pair is not None:
            style = ":" if policy.name == ORACLE else "-"
            label = f"{policy.name} (APGR {_number(policy.pair.apgr.value)})"
            width = 2.4 if policy.is_subject else 1.5
            axes.plot(policy.pair.share, policy.pair.quality, style, color=colour, linewidth=width, label=label)
    ends = [study.quality[weak].value, study.quality[strong].value]
    axes.plot([0, 1], ends, color=GREY, linestyle=":", linewidth=1.2, label="random (APGR 0.5)")
    axes.set(xlabel=f"share of queries that {strong} answers", ylabel="mean quality")
    axes.xaxis.set_major_formatter(percent_axis())
    _tidy(axes)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _tidy(axes: Any) -> None:
    without_frame(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=8.5)

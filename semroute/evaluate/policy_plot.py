"""Policies as curves of quality over cost, in PNG or SVG; needs the extra "plot". Draws what others computed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from semroute.errors import InputError
from semroute.evaluate.curves.hull import hull
from semroute.evaluate.plots import BLUE, GREEN, GREY, ORANGE
from semroute.evaluate.study.results import ORACLE, PolicyResult, Study
from semroute.evaluate.study.study import mixing
from semroute.extras import require

FORMATS = (".png", ".svg")
_THOUSAND = 1000
# More of Okabe and Ito's palette.
_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_WHAT = "drawing a curve"


def plot_study(study: Study, path: Path, *, title: str) -> None:
    """Write the curves of a comparison to a file.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither PNG nor SVG, or cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: a plot is one of {', '.join(FORMATS)}; name it so")
    figure = _figure(study, title)
    try:
        figure.savefig(path, format=path.suffix[1:].lower())
    except OSError as error:
        raise InputError(f"{path}: the plot cannot be written ({error.strerror or error})") from error


def svg(study: Study, *, title: str) -> str:
    """The curves as an ``<svg>`` element, to be put into a page; the same comparison gives the same text.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    matplotlib = require("matplotlib", what=_WHAT, extra="plot")
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "semroute"}):
        _figure(study, title).savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _figure(study: Study, title: str) -> Any:
    figure_module = require("matplotlib.figure", what=_WHAT, extra="plot")
    has_pair = study.roles.pair is not None
    figure = figure_module.Figure(figsize=(14 if has_pair else 9, 6), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2 if has_pair else 1, squeeze=False)[0]
    figure.suptitle(title)
    _cost_axes(axes[0], study)
    if has_pair:
        _share_axes(axes[1], study)
    return figure


def _cost_axes(axes: Any, study: Study) -> None:
    for colour, policy in zip(_COLOURS, study.policies, strict=False):
        _curve(axes, policy, colour)
    costs = np.array([study.cost[model].value for model in study.models]) * _THOUSAND
    qualities = np.array([study.quality[model].value for model in study.models])
    axes.plot(costs, qualities, "o", color="black", markersize=5, zorder=4)
    _names(axes, study, costs, qualities)
    axes.plot(*hull(costs, qualities), color=GREY, linestyle="--", linewidth=1.2, label="zero router: models mixed")
    ends = mixing(study)
    label = "cheapest and strongest mixed"
    axes.plot(ends[0] * _THOUSAND, ends[1], color=GREY, linestyle=":", linewidth=1.2, label=label)
    axes.axhline(study.best_quality.value, color="black", linewidth=0.7, alpha=0.4, label="best single model")
    axes.set(xlabel="USD for 1,000 queries", ylabel="mean quality")
    _tidy(axes)


def _curve(axes: Any, policy: PolicyResult, colour: str) -> None:
    cost, quality = policy.curve.cost * _THOUSAND, policy.curve.quality
    style = ":" if policy.name == ORACLE else "-"
    width = 2.4 if policy.is_subject else 1.5
    gain = policy.figures.aiq
    label = f"{policy.name} (AIQ {gain.value:.3f})"
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
    for colour, policy in zip(_COLOURS, study.policies, strict=False):
        if policy.pair is not None:
            style = ":" if policy.name == ORACLE else "-"
            label = f"{policy.name} (APGR {policy.pair.apgr.value:.3f})"
            width = 2.4 if policy.is_subject else 1.5
            axes.plot(policy.pair.share, policy.pair.quality, style, color=colour, linewidth=width, label=label)
    ends = [study.quality[weak].value, study.quality[strong].value]
    axes.plot([0, 1], ends, color=GREY, linestyle=":", linewidth=1.2, label="random (APGR 0.5)")
    axes.set(xlabel=f"share of queries that {strong} answers", ylabel="mean quality")
    axes.xaxis.set_major_formatter(require("matplotlib.ticker", what=_WHAT, extra="plot").PercentFormatter(1))
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=8.5)

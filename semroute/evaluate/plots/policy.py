"""Policies as curves of quality over cost, in PNG or SVG; needs the extra "plot". Draws what others computed."""

from __future__ import annotations

from collections.abc import Sequence
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
from semroute.evaluate.plots.labels import label_points
from semroute.evaluate.plots.paths import Line, look_the_same
from semroute.evaluate.study.results import ORACLE, PolicyResult, Study
from semroute.evaluate.study.study import mixing
from semroute.types.vectors import Doubles

_THOUSAND = 1000


def plot_study(study: Study, path: Path, *, title: str) -> None:
    """Write the curves of a comparison to a file.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither PNG nor SVG, or cannot be written.
    """
    check_format(path)
    write(drawn(study, title), path)


def svg(study: Study, *, title: str) -> str:
    """The curves as an ``<svg>`` element, to be put into a page; the same comparison gives the same text.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    return svg_element(drawn(study, title))


def drawn(study: Study, title: str) -> Any:
    """The curves as a figure of matplotlib.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    has_pair = study.roles.pair is not None
    figure = new_figure(14 if has_pair else 9, 6)
    axes = figure.subplots(1, 2 if has_pair else 1, squeeze=False, sharey=True)[0]
    figure.suptitle(title)
    costs = np.array([study.cost[model].value for model in study.models]) * _THOUSAND
    qualities = np.array([study.quality[model].value for model in study.models])
    _cost_axes(axes[0], study, costs, qualities)
    if has_pair:
        _share_axes(axes[1], study)
    axes[0].set_ylabel("mean quality")
    label_points(figure, axes[0], study.models, costs, qualities)
    return figure


def _cost_axes(axes: Any, study: Study, costs: Doubles, qualities: Doubles) -> None:
    lines = [np.column_stack([policy.curve.cost[0] * _THOUSAND, policy.curve.quality[0]]) for policy in study.policies]
    names = [f"{policy.name} (AIQ {_number(policy.figures.aiq.value)})" for policy in study.policies]
    _curves(axes, study.policies, lines, names)
    _band(axes, study)
    axes.plot(costs, qualities, "o", color="black", markersize=5, zorder=4)
    _mixtures(axes, study, costs, qualities)
    label = "best single model, chosen on other folds"
    axes.axhline(study.best_quality.value, color="black", linewidth=0.7, alpha=0.4, label=label)
    axes.set(xlabel="USD for 1,000 queries")
    _tidy(axes)


def _curves(axes: Any, policies: Sequence[PolicyResult], lines: Sequence[Line], names: Sequence[str]) -> None:
    """The curve of each policy; those that look the same are drawn once, with all their names."""
    hidden: set[int] = set()
    for place, (policy, own) in enumerate(zip(policies, lines, strict=True)):
        if place in hidden:
            continue
        alike = [other for other in range(place, len(lines)) if look_the_same(own, lines[other])]
        hidden.update(alike)
        style = ":" if policy.name == ORACLE else "-"
        # A policy that always chooses alike is a spot, which no line shows.
        marker = "s" if (np.ptp(own, axis=0) == 0).all() else None
        axes.plot(
            *own.T, style, marker=marker, color=COLOURS[place % len(COLOURS)],
            linewidth=2.4 if policy.is_subject else 1.5, label=", ".join(names[other] for other in alike), zorder=3,
        )  # fmt: skip


def _band(axes: Any, study: Study) -> None:
    """The interval of what the comparison is about."""
    for place, policy in enumerate(study.policies):
        if policy.is_subject:
            low, high = np.quantile(policy.curve.quality[1:], [0.025, 0.975], axis=0)
            cost = policy.curve.cost[0] * _THOUSAND
            axes.fill_between(cost, low, high, color=COLOURS[place % len(COLOURS)], alpha=0.15, linewidth=0)


def _mixtures(axes: Any, study: Study, costs: Doubles, qualities: Doubles) -> None:
    """What models mixed at random give; once, where the two best mixed are the cheapest and the strongest."""
    zero = np.column_stack(hull(costs, qualities))
    ends = np.column_stack(mixing(study)) * (_THOUSAND, 1)
    is_same = look_the_same(zero, ends)
    if len(zero) > 1:
        label = "zero router: cheapest and strongest mixed" if is_same else "zero router: models mixed"
        axes.plot(*zero.T, color=GREY, linestyle="--", linewidth=1.2, label=label)
    if not is_same and study.roles.cheapest != study.roles.strongest:
        axes.plot(*ends.T, color=GREY, linestyle=":", linewidth=1.2, label="cheapest and strongest mixed")


def _share_axes(axes: Any, study: Study) -> None:
    assert study.roles.pair is not None
    weak, strong = (study.models[column] for column in study.roles.pair)
    policies = [policy for policy in study.policies if policy.pair is not None]
    pairs = [policy.pair for policy in policies if policy.pair is not None]
    names = [f"{policy.name} (APGR {_number(pair.apgr.value)})" for policy, pair in zip(policies, pairs, strict=True)]
    _curves(axes, policies, [np.column_stack([pair.share, pair.quality]) for pair in pairs], names)
    ends = [study.quality[weak].value, study.quality[strong].value]
    axes.plot([0, 1], ends, color=GREY, linestyle=":", linewidth=1.2, label="random (APGR 0.5)")
    axes.set(xlabel=f"share of queries that {strong} answers")
    axes.xaxis.set_major_formatter(percent_axis())
    _tidy(axes)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _tidy(axes: Any) -> None:
    without_frame(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=8.5)

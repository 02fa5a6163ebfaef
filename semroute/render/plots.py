"""Plots of bills, log reports, threshold sweeps and policies.

Needs the extra "plot"; draws figures that were computed elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.errors import InputError
from semroute.evaluate.comparison import mixing
from semroute.evaluate.comparison_results import ORACLE, PolicyResult, Study
from semroute.evaluate.curves import hull
from semroute.evaluate.log_report import Bill, LogReport
from semroute.evaluate.routing import SweepPoint
from semroute.storage import atomic_write
from semroute.types.protocols import Doubles

# Shared by all plots: matplotlib without a screen, colours, and output to a file or a page.

FORMATS = (".png", ".svg")
WHAT = "drawing a curve"

# Okabe and Ito's palette, which colour-blind readers can tell apart: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7f7f7f"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, with width and height in inches.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    return require("matplotlib.figure", what=WHAT, extra="plot").Figure(
        figsize=(width, height), dpi=150, layout="constrained"
    )


def percent_axis() -> Any:
    """Return a formatter of shares as per cent."""
    return require("matplotlib.ticker", what=WHAT, extra="plot").PercentFormatter(1)


def without_frame(axes: Any) -> None:
    """Draw a light grid, and no box around it."""
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def check_format(path: Path) -> None:
    """Raise InputError unless a file's name is that of a PNG or an SVG."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: a plot is one of {', '.join(FORMATS)}; name it so")


def write(figure: Any, path: Path) -> None:
    """Write a figure to a PNG or SVG file.

    Raises:
        InputError: the file is neither, or cannot be written.
    """
    check_format(path)
    save(figure, path, path.suffix[1:].lower())


def save(figure: Any, path: Path, kind: str) -> None:
    """Write a figure in the format ``kind``, whatever its file's suffix.

    Raises:
        InputError: the file cannot be written; an existing one is unchanged.
    """
    try:
        with atomic_write(path) as part:
            figure.savefig(part, format=kind)
    except OSError as error:
        raise InputError(f"{path}: the plot cannot be written ({error.strerror or error})") from error


def svg_element(figure: Any) -> str:
    """Return a figure as an ``<svg>`` element for a page.

    The same figure gives the same text.
    """
    matplotlib = require("matplotlib", what=WHAT, extra="plot")
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "semroute"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def plot_bill(bill: Bill, escalated: float, path: Path) -> None:
    """Draw a cascade's bill over its escalation rate.

    The bills of the strong model alone and of routing are drawn for comparison.

    Args:
        bill: bill of a month.
        escalated: escalation rate that is marked, 0 to 1.
        path: a PNG or SVG file.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither, or cannot be written.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    rates = np.linspace(0, 1, 101)
    axes.plot(rates, [bill.cascaded(rate) for rate in rates], color=BLUE, linewidth=2, label="cascade")
    axes.axhline(bill.before, color=ORANGE, linewidth=2, label="strong model alone")
    axes.axhline(bill.routed, color=GREEN, linewidth=2, label="routed without a mistake")
    for rate, at in ((bill.break_even, bill.before), (bill.routing_even, bill.routed)):
        axes.plot(rate, at, "o", color=GREY, markeredgecolor="white", markersize=8, zorder=3)
        axes.annotate(f"{rate:.1%}", (rate, at), xytext=(-4, 7), textcoords="offset points", ha="right")
    axes.plot(escalated, bill.cascaded(escalated), "o", color=BLUE, markersize=8, markeredgecolor="white", zorder=4)
    axes.set(xlabel="queries that go on to the strong model", ylabel="USD a month")
    axes.xaxis.set_major_formatter(percent_axis())
    axes.yaxis.set_major_formatter(lambda usd, _: f"{usd:,.0f}")
    axes.set_ylim(bottom=0, top=bill.before * 1.15 or 1)
    without_frame(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
    write(figure, path)


# Visual equality of lines: compared by their path, whatever points they were drawn through.

Line = NDArray[np.float64]
"""``(k, 2)`` points of a polyline."""

_SAMPLES = 400
_SEEN = 2e-3
"""Tolerance, as a share of a plot's width or height, within which lines look the same."""


def along(path: Line, samples: int = _SAMPLES) -> Line:
    """Return ``(samples, 2)`` equidistant points along a path.

    The first and the last are its ends.
    """
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    steps = np.linspace(0, way[-1], samples)
    return np.column_stack([np.interp(steps, way, path[:, 0]), np.interp(steps, way, path[:, 1])])


def look_the_same(first: Line, second: Line) -> bool:
    """Return True if one path hides the other, both drawn over their range."""
    both = np.concatenate([first, second])
    low, high = both.min(axis=0), both.max(axis=0)
    scale = np.where(high > low, high - low, 1.0)
    return bool(np.abs(along((first - low) / scale) - along((second - low) / scale)).max() < _SEEN)


# Keys of points: numerals, which need little room, and their names beside the axes.

_CIRCLE = 11.0
"""Diameter of a numeral's circle, in points."""


def number_points(figure: Any, axes: Any, names: Sequence[str], x: Doubles, y: Doubles, *, title: str) -> Any:
    """Number points from left to right, and list their names in a legend.

    The legend stands to the right of all axes, where it covers nothing.

    Args:
        figure: matplotlib's figure, with constrained layout.
        axes: axes of the figure.
        names: ``m`` names.
        x: ``(m,)`` of the points, in the data's units.
        y: ``(m,)`` of the points, upwards.
        title: of the legend.

    Returns:
        The legend; None without points.
    """
    handles = []
    for number, place in enumerate(np.lexsort((y, x)).tolist(), 1):
        spot = (x[place], y[place])
        # Later circles lie above earlier ones: the numeral goes with its own.
        (circle,) = axes.plot(
            *spot, "o", markersize=_CIRCLE, color="white", alpha=0.85, markeredgecolor="black", zorder=4 + number
        )
        (numeral,) = axes.plot(
            *spot, marker=f"${number}$", markersize=_CIRCLE * 0.55, color="black", linestyle="", zorder=4 + number
        )
        numeral.set_markeredgewidth(0.3)
        handles.append(((circle, numeral), names[place]))
    if not handles:
        return None
    legend = figure.legend(
        [pair for pair, _ in handles],
        [str(number) for number in range(1, len(handles) + 1)],
        loc="outside right upper",
        title=title,
        alignment="left",
        frameon=False,
        fontsize=8.5,
        title_fontsize=8.5,
    )
    # Set afterwards and literally: a legend leaves out labels with a leading underscore, and reads $ as mathematics.
    for text, (_, name) in zip(legend.get_texts(), handles, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    return legend


# Plots of the log report.

MAX_POINTS = 1000
"""Maximum points of a curve; a page need not have one for each of a million queries."""
MAX_BARS = 25
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def spending(report: LogReport) -> str:
    """Return an ``<svg>`` of spending over time.

    It is compared with the strongest model alone.
    """
    columns = report.columns
    figure = new_figure(9, 3.8)
    axes = figure.subplots()
    at, cost, baseline = columns.array("at"), columns.array("cost"), columns.array("baseline")
    known = np.isfinite(cost) & np.isfinite(baseline)
    order = np.argsort(at[known], kind="stable")
    times = [datetime.fromtimestamp(second, UTC) for second in _thinned(at[known][order])]
    routed, baseline_sum = (_thinned(np.cumsum(column[known][order])) for column in (cost, baseline))
    strongest = ", ".join(report.saving.baseline_models) or "strongest model"
    axes.plot(times, baseline_sum, color=ORANGE, linewidth=2, label=f"{strongest} alone")
    axes.plot(times, routed, color=BLUE, linewidth=2, label="paid")
    axes.fill_between(times, routed, baseline_sum, color=GREEN, alpha=0.12, linewidth=0, label="saved")
    axes.set(ylabel="USD so far")
    axes.set_ylim(bottom=0)
    figure.autofmt_xdate()
    return _finish(figure, axes, columns=3)


def by_day(report: LogReport) -> str | None:
    """Return an ``<svg>`` of USD per day by model; None for under two days.

    It shows what the strongest model would have cost, too.
    """
    columns = report.columns
    days = sorted({day for day, _ in columns.by_day})
    if len(days) < 2:
        return None
    figure = new_figure(9, 3.8)
    axes = figure.subplots()
    span = np.arange(days[0], days[-1] + 1)
    dates = [_EPOCH + timedelta(days=int(day)) for day in span]
    below = np.zeros(len(span))
    for position, group in enumerate(report.models):
        heights = np.array([columns.by_day.get((int(day), group.name), 0.0) for day in span])
        axes.bar(dates, heights, bottom=below, width=0.8, color=COLOURS[position % len(COLOURS)], label=group.name)
        below += heights
    baseline = columns.array("baseline")
    known = np.isfinite(baseline)
    alone = np.bincount((columns.array("at")[known] // 86_400).astype(np.int64) - days[0], baseline[known], len(span))
    axes.plot(dates, alone[: len(span)], "_", color="black", markersize=14, label="strongest model alone")
    axes.set(ylabel="USD a day")
    figure.autofmt_xdate()
    return _finish(figure, axes, columns=3)


def times(report: LogReport) -> str:
    """Return an ``<svg>`` of the latency distribution, escalated or not."""
    columns = report.columns
    figure = new_figure(9, 4)
    axes = figure.subplots()
    duration, answered, escalated = (
        columns.array("latency"),
        columns.array("answered") > 0,
        columns.array("escalated") > 0,
    )
    for label, rows, colour in (
        ("not escalated", answered & ~escalated, BLUE),
        ("escalated", answered & escalated, ORANGE),
        ("all", answered, GREY),
    ):
        values = np.sort(duration[rows])
        if len(values):
            shares = np.arange(1, len(values) + 1) / len(values)
            style = "--" if label == "all" else "-"
            axes.step(_thinned(values), _thinned(shares), style, where="post", color=colour, linewidth=2, label=label)
    for level in (0.5, 0.99):
        axes.axhline(level, color="black", linewidth=0.6, alpha=0.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda ms, _: f"{ms:,.0f}" if ms >= 1 else f"{ms:g}")
    axes.set(xlabel="milliseconds to the whole answer", ylabel="share of answers")
    axes.yaxis.set_major_formatter(percent_axis())
    return _finish(figure, axes, columns=3)


def escalation(report: LogReport) -> str | None:
    """Return an ``<svg>`` of escalation rates by category with intervals.

    None if no query went through a cascade.
    """
    rows = [(group.name or "(no category)", group.escalation) for group in report.categories if group.escalation]
    if not rows:
        return None
    rows = rows[:MAX_BARS][::-1]
    figure = new_figure(9, 1.2 + 0.38 * len(rows))
    axes = figure.subplots()
    positions = np.arange(len(rows))
    rates = [rate for _, rate in rows if rate is not None]
    values = np.array([rate.value for rate in rates])
    errors = np.abs(np.array([[rate.low for rate in rates], [rate.high for rate in rates]]) - values)
    axes.barh(positions, values, color=BLUE, height=0.6)
    axes.errorbar(values, positions, xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    axes.set_yticks(positions, [name for name, _ in rows])
    axes.xaxis.set_major_formatter(percent_axis())
    axes.set(xlabel="escalated, of the queries that went up a cascade")
    axes.set_xlim(left=0)
    without_frame(axes)
    return svg_element(figure)


def _finish(figure: Any, axes: Any, *, columns: int) -> str:
    without_frame(axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)
    return svg_element(figure)


def _thinned(values: np.ndarray) -> np.ndarray:
    """Return at most so many of the values, with the first and the last."""
    if len(values) <= MAX_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, MAX_POINTS).round().astype(np.int64)]


# Plot of a threshold sweep.


def plot_sweep(points: Sequence[SweepPoint], recommended: SweepPoint, path: Path, *, title: str) -> None:
    """Draw coverage, accuracy and out-of-scope recall over the threshold.

    The recommended threshold is marked.

    Args:
        points: the sweep, thresholds ascending.
        recommended: one of ``points``.
        path: the PNG file to write.
        title: over the curves.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file cannot be written.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for name, colour, style in _CURVES:
        _curve(axes, points, recommended, name, colour, style)
    axes.axvline(recommended.threshold, color="black", linewidth=1, linestyle=":")
    on_left = recommended.threshold > (points[0].threshold + points[-1].threshold) / 2
    axes.annotate(
        f"recommended: {recommended.threshold:.2f}",
        (recommended.threshold, 1.03),
        xytext=(-5 if on_left else 5, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="center",
        fontweight="bold",
    )
    axes.set(xlabel="fallback threshold (score)", ylabel="share of queries", title=title)
    axes.set_ylim(-0.02, 1.07)
    axes.set_xlim(points[0].threshold, points[-1].threshold)
    axes.yaxis.set_major_formatter(percent_axis())
    without_frame(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    save(figure, path, "png")


_CURVES = (
    ("coverage", BLUE, "-"),
    ("accuracy_accepted", GREEN, "-"),
    ("oos_caught", ORANGE, "-"),
    ("accuracy", GREY, "--"),
)
_LABELS = {
    "coverage": "coverage: in-scope queries accepted",
    "accuracy_accepted": "accuracy on accepted queries",
    "oos_caught": "out-of-scope queries caught",
    "accuracy": "all queries decided rightly",
}


def _curve(
    axes: Any, points: Sequence[SweepPoint], recommended: SweepPoint, name: str, colour: str, style: str
) -> None:
    values = [getattr(point, name) for point in points]
    if values[0] is None:  # no out-of-scope queries
        return
    at = getattr(recommended, name)
    label = f"{_LABELS[name]} ({at:.1%})"
    axes.plot([point.threshold for point in points], values, style, color=colour, linewidth=2, label=label)
    axes.plot(recommended.threshold, at, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)


# Plot of a tuned policy on the curves of all tried policies.

_THOUSAND = 1000
_MARKERS = "*PsD"
Spot = tuple[float, float]
"""Mean USD per query, and mean quality."""


def plot_tuned(
    curves: Mapping[str, Sequence[Spot]],
    marked_points: Mapping[str, Spot],
    path: Path,
    *,
    title: str,
    floor: float | None = None,
    budget: float | None = None,
) -> None:
    """Draw a tuned policy among all that were tried.

    All points are measured on the same rows.

    Args:
        curves: tried points by family.
        marked_points: at most four single points by name: the choice, the strongest model, the point of most quality
            per dollar.
        path: a PNG or SVG file.
        title: title of the plot.
        floor: required quality; None draws none.
        budget: required USD per query; None draws none.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither PNG nor SVG, or cannot be written.
    """
    check_format(path)
    figure = new_figure(9, 6)
    axes = figure.subplots()
    axes.set_title(f"{title}: the rows that tested the policies", loc="left")
    for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
        ordered = sorted(points)
        cost, quality = [_THOUSAND * point[0] for point in ordered], [point[1] for point in ordered]
        axes.scatter(cost, quality, s=14, color=colour, alpha=0.6, linewidths=0, label=name)
    for marker, (name, point) in zip(_MARKERS, marked_points.items(), strict=False):
        size = 220 if marker in "*P" else 70
        axes.scatter(
            [_THOUSAND * point[0]], [point[1]], s=size, marker=marker, color="black", facecolors="none", linewidths=1.5,
            label=name, zorder=3,
        )  # fmt: skip
    if floor is not None:
        axes.axhline(floor, color="black", linewidth=1, linestyle="--", label="floor")
    if budget is not None:
        axes.axvline(_THOUSAND * budget, color="black", linewidth=1, linestyle="--", label="budget")
    axes.set_xlabel("USD for 1,000 queries")
    axes.set_ylabel("mean quality")
    axes.yaxis.set_major_formatter(percent_axis())
    axes.legend(frameon=False)
    without_frame(axes)
    write(figure, path)


# Plot of policies as curves of quality over cost.


def plot_study(study: Study, path: Path, *, title: str) -> None:
    """Draw the curves of a comparison.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
        InputError: the file is neither PNG nor SVG, or cannot be written.
    """
    check_format(path)
    write(drawn(study, title), path)


def svg(study: Study, *, title: str) -> str:
    """Return the curves as an ``<svg>`` element for a page.

    The same comparison gives the same text.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    return svg_element(drawn(study, title))


def drawn(study: Study, title: str) -> Any:
    """Return the curves as a matplotlib figure.

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
    number_points(figure, axes[0], study.models, costs, qualities, title="models, cheapest first")
    return figure


def _cost_axes(axes: Any, study: Study, costs: Doubles, qualities: Doubles) -> None:
    lines = [np.column_stack([policy.curve.cost[0] * _THOUSAND, policy.curve.quality[0]]) for policy in study.policies]
    names = [f"{policy.name} (AIQ {_number(policy.figures.aiq.value)})" for policy in study.policies]
    _curves(axes, study.policies, lines, names)
    _band(axes, study)
    _mixtures(axes, study, costs, qualities)
    label = "best single model, chosen on other folds"
    axes.axhline(study.best_quality.value, color="black", linewidth=0.7, alpha=0.4, label=label)
    axes.set(xlabel="USD for 1,000 queries")
    _tidy(axes)


def _curves(axes: Any, policies: Sequence[PolicyResult], lines: Sequence[Line], names: Sequence[str]) -> None:
    """Draw the curve of each policy.

    Curves that look the same are drawn once, with all their names.
    """
    hidden: set[int] = set()
    for position, (policy, line) in enumerate(zip(policies, lines, strict=True)):
        if position in hidden:
            continue
        same = [other for other in range(position, len(lines)) if look_the_same(line, lines[other])]
        hidden.update(same)
        style = ":" if policy.name == ORACLE else "-"
        # A policy that always chooses the same model is a point, which no line shows.
        marker = "s" if (np.ptp(line, axis=0) == 0).all() else None
        axes.plot(
            *line.T, style, marker=marker, color=COLOURS[position % len(COLOURS)],
            linewidth=2.4 if policy.is_subject else 1.5, label=", ".join(names[other] for other in same), zorder=3,
        )  # fmt: skip


def _band(axes: Any, study: Study) -> None:
    """Draw the interval of the policy under comparison."""
    for position, policy in enumerate(study.policies):
        if policy.is_subject:
            low, high = np.quantile(policy.curve.quality[1:], [0.025, 0.975], axis=0)
            cost = policy.curve.cost[0] * _THOUSAND
            axes.fill_between(cost, low, high, color=COLOURS[position % len(COLOURS)], alpha=0.15, linewidth=0)


def _mixtures(axes: Any, study: Study, costs: Doubles, qualities: Doubles) -> None:
    """Draw random mixtures of models.

    They are drawn once if the best mixture is that of the cheapest and the strongest.
    """
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

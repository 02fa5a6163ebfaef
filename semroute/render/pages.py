"""HTML pages of the log report and of a comparison of policies.

A page holds its style and its plots, and needs no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semroute._optional import require
from semroute.errors import InputError
from semroute.evaluate.comparison_results import Study
from semroute.evaluate.drift import FITS, Compared
from semroute.evaluate.duplicates import NEAR
from semroute.evaluate.log_report import LogReport, moment, ms, notes, percent, usd, warnings
from semroute.evaluate.metrics import Interval
from semroute.render import plots
from semroute.render.plots import svg
from semroute.storage import atomic_write

MEANINGS = (
    (
        "AIQ",
        "average improvement in quality: the mean height of a policy's curve over costs, from the cheapest model's to "
        "the most expensive one's; points of the curve may be mixed at random",
        "RouterBench, arXiv:2403.12031",
    ),
    (
        "zero router",
        "the best that mixing the single models at random gives, without a look at the query; a policy that is not "
        "above it is of no use",
        "RouterBench, arXiv:2403.12031",
    ),
    (
        "best single model",
        "the one model that is best on the other folds, chosen anew for each fold, so that it is a choice one could "
        "have made; it may score below the best of the table of models, which is known only afterwards",
        "",
    ),
    (
        "PerfGain",
        "the quality of a policy's best point relative to the best single model's, less 1",
        "LLMRouterBench, arXiv:2601.07206",
    ),
    ("by quality alone", "the same for the end of the curve at which cost does not count: no point is chosen", ""),
    (
        "CostSave",
        "the share of the best single model's cost that the cheapest point saves that is as good as it",
        "LLMRouterBench, arXiv:2601.07206",
    ),
    (
        "ParetoDist",
        "the mean distance of a policy's points from the frontier of all that are compared, both axes scaled to 0 to "
        "1; 0 is on it",
        "LLMRouterBench, arXiv:2601.07206",
    ),
    (
        "arena",
        "quality and cheapness (on a logarithmic scale) in one number, 0 to 1; that of the policy's best point",
        "RouterArena, arXiv:2510.00202",
    ),
    (
        "APGR",
        "average performance gap recovered, of two models: 0 is as good as the weaker one, 1 as the stronger, averaged "
        "over shares of calls of the stronger; random choice has 0.5",
        "RouteLLM, arXiv:2406.18665",
    ),
    (
        "CPT(50%)",
        "call-performance threshold: the smallest share of calls of the stronger model that recovers half of the gap",
        "RouteLLM, arXiv:2406.18665",
    ),
    (
        "deferral area",
        "the area under the curve of quality over the share of calls of the stronger model",
        "Gupta et al., arXiv:2404.10136",
    ),
    (
        "AUROC",
        "how often a prediction ranks a good answer above a bad one; 0.5 is chance",
        "Hanley and McNeil, Radiology 143, 1982",
    ),
    (
        "calibration error (ECE)",
        "the mean gap between predicted and true quality, over bins of predictions; 0 is best",
        "Guo et al., arXiv:1706.04599",
    ),
    ("-", "not defined here, such as a saving where no point is as good as the best single model", ""),
)
"""Name, meaning and source of each figure."""


# Rendering a template to a file.


def render(template: str, filters: Mapping[str, Callable[..., str]], **values: object) -> str:
    """Render a template of this folder, with all values escaped.

    Raises:
        MissingExtraError: the extra "report" is not installed.
    """
    jinja = require("jinja2", what="writing a page", extra="report")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("semroute.render", "templates"),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return str(environment.get_template(template).render(**values))


def drawn(svg: str) -> Any:
    """Mark an SVG drawing as safe for a template.

    matplotlib escapes text itself, and its markup must not be escaped again.
    """
    return require("markupsafe", what="writing a page", extra="report").Markup(svg)


def write(page: str, path: Path) -> None:
    """Write a page atomically.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with atomic_write(path) as part:
            part.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the page cannot be written ({error.strerror or error})") from error


# The log report as one page.


def write_report_page(report: LogReport, path: Path, *, title: str, drift: Compared | None = None) -> None:
    """Write the page of a log report atomically.

    Args:
        report: figures of the log.
        path: the file.
        title: description of the queries.
        drift: fit of a tuned policy; None if no policy was named.

    Raises:
        MissingExtraError: the extra "report" is not installed.
        InputError: the file cannot be written.
    """
    write(report_page(report, title=title, drift=drift), path)


def report_page(report: LogReport, *, title: str, drift: Compared | None = None) -> str:
    """Return the page's HTML; arguments as of :func:`write_report_page`."""
    has_bill = report.saving.share is not None
    has_answers = report.latency.total.n > 0
    drawings = {
        "spending": plots.spending(report) if has_bill else None,
        "by_day": plots.by_day(report),
        "times": plots.times(report) if has_answers else None,
        "escalation": plots.escalation(report),
    }
    return render(
        "report.html.j2",
        {"usd": usd, "percent": percent, "ms": ms, "moment": moment},
        title=title,
        report=report,
        saving=report.saving,
        warnings=[*([] if drift is None else drift.warnings()), *warnings(report)],
        drift=drift,
        fits=FITS,
        notes=list(notes(report)),
        drawings={name: None if svg is None else drawn(svg) for name, svg in drawings.items()},
    )


# A comparison of policies as one page.


def write_policy_page(
    study: Study, unseen: Study | None, path: Path, *, title: str, notes: Sequence[str], warnings: Sequence[str] = ()
) -> None:
    """Write the page of a comparison; it needs no network.

    Args:
        study: the comparison.
        unseen: the comparison with whole tasks left out, if it was made.
        path: the file.
        title: description of the comparison.
        notes: caveats for a reader of the figures.
        warnings: problems that change the meaning of the figures.

    Raises:
        MissingExtraError: an extra is not installed.
        InputError: the file cannot be written.
    """
    write(policy_page(study, unseen, title=title, notes=notes, warnings=warnings), path)


def policy_page(
    study: Study, unseen: Study | None, *, title: str, notes: Sequence[str], warnings: Sequence[str] = ()
) -> str:
    """Return the page's HTML; arguments as of :func:`write_policy_page`."""
    parts = [("Queries that were not fitted on", study)]
    if unseen is not None:
        parts.append(("Tasks that were never seen", unseen))
    return render(
        "policy.html.j2",
        {"figure": figure, "span": span, "usd": usd_per_thousand, "number": number},
        title=title,
        study=study,
        parts=[(name, part, drawn(svg(part, title=""))) for name, part in parts],
        notes=notes,
        warnings=warnings,
        near=NEAR,
        meanings=MEANINGS,
    )


def figure(interval: Interval, *, sign: bool = False, share: bool = False) -> str:
    """Return a figure as text; a dash if undefined."""
    if interval.value != interval.value:
        return "-"
    plus = "+" if sign else ""
    return f"{interval.value:{plus}.1%}" if share else f"{interval.value:{plus}.3f}"


def span(interval: Interval, *, sign: bool = False, share: bool = False) -> str:
    """Return a figure's interval as text; empty if undefined."""
    if interval.value != interval.value:
        return ""
    plus = "+" if sign else ""
    form = f"{plus}.1%" if share else f"{plus}.3f"
    return f"{interval.low:{form}} to {interval.high:{form}}"


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many decimals; a dash if undefined."""
    return "-" if value != value else f"{value:.{digits}f}"


def usd_per_thousand(value: float) -> str:
    """Return USD per 1,000 queries as text."""
    return f"{value * 1000:,.4f}"

"""The report of a log as one page."""

from __future__ import annotations

from pathlib import Path

from semroute.evaluate.pages.writing import drawn, render, write
from semroute.evaluate.plots import report as plots
from semroute.evaluate.report.notes import notes, warnings
from semroute.evaluate.report.report import Report
from semroute.evaluate.report.words import moment, ms, percent, usd


def write_page(report: Report, path: Path, *, title: str) -> None:
    """Write the page, whole or not at all.

    Args:
        report: what the log says.
        path: the file.
        title: which queries these are.

    Raises:
        MissingExtraError: the extra "report" is not installed.
        InputError: the file cannot be written.
    """
    write(page(report, title=title), path)


def page(report: Report, *, title: str) -> str:
    """The page's text; arguments as of :func:`write_page`."""
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
        warnings=list(warnings(report)),
        notes=list(notes(report)),
        drawings={name: None if svg is None else drawn(svg) for name, svg in drawings.items()},
    )

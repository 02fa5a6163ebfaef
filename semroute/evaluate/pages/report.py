"""The report of a log as one page."""

from __future__ import annotations

from pathlib import Path

from semroute.evaluate.pages.writing import drawn, render, write
from semroute.evaluate.plots import report as plots
from semroute.evaluate.report.drift_words import FITS, Compared
from semroute.evaluate.report.notes import notes, warnings
from semroute.evaluate.report.report import LogReport
from semroute.evaluate.report.words import moment, ms, percent, usd


def write_page(report: LogReport, path: Path, *, title: str, drift: Compared | None = None) -> None:
    """Write the page, whole or not at all.

    Args:
        report: what the log says.
        path: the file.
        title: which queries these are.
        drift: whether a tuned policy still fits; None where none was named.

    Raises:
        MissingExtraError: the extra "report" is not installed.
        InputError: the file cannot be written.
    """
    write(page(report, title=title, drift=drift), path)


def page(report: LogReport, *, title: str, drift: Compared | None = None) -> str:
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
        warnings=[*([] if drift is None else drift.warnings()), *warnings(report)],
        drift=drift,
        fits=FITS,
        notes=list(notes(report)),
        drawings={name: None if svg is None else drawn(svg) for name, svg in drawings.items()},
    )

"""What a reader of a report must know, in words."""

from __future__ import annotations

from collections.abc import Iterator

from semroute.evaluate.report.report import LogReport


def warnings(report: LogReport) -> Iterator[str]:
    """What the figures would otherwise hide."""
    of = report.latency
    if of.hides and of.total.p99 is not None and of.not_escalated.p99 is not None:
        yield (
            f"the slowest answers are {of.total.p99 / of.not_escalated.p99:.1f} times as slow as without escalation: "
            f"p99 {of.total.p99:,.0f} ms against {of.not_escalated.p99:,.0f} ms; the median does not show it"
        )
    saving = report.saving
    if saving.share is not None and saving.share.high < 0:
        yield f"routing costs more than {', '.join(saving.baseline_models)} alone: see semroute advise"
    if report.unpriced_calls:
        yield (
            f"{report.unpriced_calls:,} calls have no known price and count as nothing here: "
            "set models.NAME.price in semroute.yaml"
        )


def notes(report: LogReport) -> Iterator[str]:
    """How the figures were come by."""
    saving = report.saving
    if saving.compared < saving.answered:
        yield (
            f"{saving.answered - saving.compared:,} answers are not compared: their own cost, or that of the "
            "strongest model, is not known"
        )
    if saving.share is not None:
        yield "the strongest model is taken to use the tokens of the answer that was given, at its price of that time"
    if report.estimated_calls:
        yield f"the tokens of {report.estimated_calls:,} calls are estimated: their providers did not count them"

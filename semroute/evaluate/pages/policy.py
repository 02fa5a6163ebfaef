"""A comparison of policies as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.pages.meanings import MEANINGS
from semroute.evaluate.pages.writing import drawn, render, write
from semroute.evaluate.plots.policy import svg
from semroute.evaluate.replay.duplicates import NEAR
from semroute.evaluate.study.results import Study


def write_page(
    study: Study, unseen: Study | None, path: Path, *, title: str, notes: Sequence[str], warnings: Sequence[str] = ()
) -> None:
    """Write the page; it holds its style and its plots, and asks nothing of the network.

    Args:
        study: the comparison.
        unseen: the one with whole tasks left out, if it was made.
        path: the file.
        title: what was compared.
        notes: what a reader of the figures must know.
        warnings: what makes the figures mean something else than they seem to.

    Raises:
        MissingExtraError: an extra is not installed.
        InputError: the file cannot be written.
    """
    write(page(study, unseen, title=title, notes=notes, warnings=warnings), path)


def page(study: Study, unseen: Study | None, *, title: str, notes: Sequence[str], warnings: Sequence[str] = ()) -> str:
    """The page's text; arguments as of :func:`write_page`."""
    parts = [("Queries that were not fitted on", study)]
    if unseen is not None:
        parts.append(("Tasks that were never seen", unseen))
    return render(
        "policy.html.j2",
        {"figure": figure, "span": span, "usd": usd, "number": number},
        title=title,
        study=study,
        parts=[(name, part, drawn(svg(part, title=""))) for name, part in parts],
        notes=notes,
        warnings=warnings,
        near=NEAR,
        meanings=MEANINGS,
    )


def figure(of: Interval, *, sign: bool = False, share: bool = False) -> str:
    """A figure as text; a dash where it is not defined."""
    if of.value != of.value:
        return "-"
    plus = "+" if sign else ""
    return f"{of.value:{plus}.1%}" if share else f"{of.value:{plus}.3f}"


def span(of: Interval, *, sign: bool = False, share: bool = False) -> str:
    """Its interval as text; nothing where it is not defined."""
    if of.value != of.value:
        return ""
    plus = "+" if sign else ""
    form = f"{plus}.1%" if share else f"{plus}.3f"
    return f"{of.low:{form}} to {of.high:{form}}"


def number(value: float, digits: int = 3) -> str:
    """A number with so many decimals; a dash where it is not defined."""
    return "-" if value != value else f"{value:.{digits}f}"


def usd(value: float) -> str:
    """USD of 1,000 queries."""
    return f"{value * 1000:,.4f}"

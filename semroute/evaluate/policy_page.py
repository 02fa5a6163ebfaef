"""A comparison of policies as one self-contained HTML page; needs the extras "report" and "plot"."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from semroute.errors import InputError
from semroute.evaluate.curves.bootstrap import Interval
from semroute.evaluate.policy_plot import svg
from semroute.evaluate.replay.duplicates import NEAR
from semroute.evaluate.study.results import Study
from semroute.extras import require


def write_page(study: Study, unseen: Study | None, path: Path, *, title: str, notes: Sequence[str]) -> None:
    """Write the page; it holds its style and its plots, and asks nothing of the network.

    Args:
        study: the comparison.
        unseen: the one with whole tasks left out, if it was made.
        path: the file.
        title: what was compared.
        notes: what a reader of the figures must know.

    Raises:
        MissingExtraError: an extra is not installed.
        InputError: the file cannot be written.
    """
    content = page(study, unseen, title=title, notes=notes)
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the page cannot be written ({error.strerror or error})") from error


def page(study: Study, unseen: Study | None, *, title: str, notes: Sequence[str]) -> str:
    """The page's text; arguments as of :func:`write_page`."""
    jinja = require("jinja2", what="writing a page", extra="report")
    environment = jinja.Environment(
        autoescape=True, undefined=jinja.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": figure, "span": span, "usd": usd}
    template = environment.from_string(files("semroute.evaluate").joinpath("policy_page.html.j2").read_text("utf-8"))
    parts = [("Queries that were not fitted on", study)]
    if unseen is not None:
        parts.append(("Tasks that were never seen", unseen))
    # Matplotlib escapes text itself; its markup must not be escaped again.
    drawn = [(name, part, jinja.filters.do_mark_safe(svg(part, title=""))) for name, part in parts]
    return str(template.render(title=title, study=study, parts=drawn, notes=notes, near=NEAR))


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


def usd(value: float) -> str:
    """USD of 1,000 queries."""
    return f"{value * 1000:,.4f}"

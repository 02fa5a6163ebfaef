"""From a template to a file; a page holds its style and its plots, and asks nothing of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from semroute.errors import InputError
from semroute.extras import require
from semroute.whole import atomic_write


def render(template: str, filters: Mapping[str, Callable[..., str]], **values: object) -> str:
    """A template of this folder, filled; all values are escaped.

    Raises:
        MissingExtraError: the extra "report" is not installed.
    """
    jinja = require("jinja2", what="writing a page", extra="report")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("semroute.evaluate.pages", ""),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return str(environment.get_template(template).render(**values))


def drawn(svg: str) -> Any:
    """A drawing for a template: matplotlib escapes text itself, and its markup must not be escaped again."""
    return require("markupsafe", what="writing a page", extra="report").Markup(svg)


def write(page: str, path: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with atomic_write(path) as part:
            part.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the page cannot be written ({error.strerror or error})") from error

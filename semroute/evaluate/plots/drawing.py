"""What all pictures share: matplotlib without a screen, colours, and the ways out to a file or a page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from semroute.errors import InputError
from semroute.extras import require
from semroute.whole import atomic_write

FORMATS = (".png", ".svg")
WHAT = "drawing a curve"

# Okabe and Ito's palette, which the colour-blind can tell apart: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7f7f7f"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def new_figure(width: float, height: float) -> Any:
    """An empty figure, inches wide and high.

    Raises:
        MissingExtraError: the extra "plot" is not installed.
    """
    return require("matplotlib.figure", what=WHAT, extra="plot").Figure(
        figsize=(width, height), dpi=150, layout="constrained"
    )


def percent_axis() -> Any:
    """A formatter of shares as per cent."""
    return require("matplotlib.ticker", what=WHAT, extra="plot").PercentFormatter(1)


def without_frame(axes: Any) -> None:
    """A light grid, and no box around it."""
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def check_format(path: Path) -> None:
    """Raise InputError for a file that is neither PNG nor SVG by its name."""
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
    """Write a figure in the format ``kind``, whatever the file is called.

    Raises:
        InputError: the file cannot be written; one that was there is as it was.
    """
    try:
        with atomic_write(path) as part:
            figure.savefig(part, format=kind)
    except OSError as error:
        raise InputError(f"{path}: the plot cannot be written ({error.strerror or error})") from error


def svg_element(figure: Any) -> str:
    """A figure as an ``<svg>`` element, to be put into a page; the same figure gives the same text."""
    matplotlib = require("matplotlib", what=WHAT, extra="plot")
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "semroute"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]

"""Numbers and tables that several commands show alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from semroute.index import Manifest

SOURCES = {"file": "category file", "out-of-scope": "out-of-scope queries", "in-scope": "held-out examples"}
"""What ``threshold_from`` means, for people."""


def percent(share: object) -> str:
    """A share as ``97.2%``; a dash for what could not be measured, None or NaN."""
    return f"{share:.1%}" if _is_number(share) else "-"


def number(value: object, digits: int = 3) -> str:
    """A number with so many decimals; a dash for what could not be measured, None or NaN."""
    return f"{value:.{digits}f}" if _is_number(value) else "-"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and value == value


def size(count: int) -> str:
    """Bytes for people, such as ``23.4 MB``; decimal units."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def plain_table(*numeric: str, first: str = "category") -> Table:
    """A table without frame: a column of names, then columns of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for name in numeric:
        table.add_column(name, justify="right")
    return table


def figures(**rows: str) -> Table:
    """Two columns, name and value; an underscore in a name is shown as a space."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), Text(value))
    return table


def category_table(manifest: Manifest) -> Table:
    """What an artifact holds of each category."""
    table = plain_table("examples", "prototypes", "threshold")
    table.add_column("from", style="dim")
    table.add_column("models", overflow="fold")
    for name, entry in manifest.categories.items():
        table.add_row(
            Text(name, style="cyan"),
            f"{entry.examples:,}",
            f"{entry.prototypes:,}",
            number(entry.threshold),
            SOURCES.get(entry.threshold_from, entry.threshold_from),
            Text(", ".join(entry.models)) if entry.models else Text("the fallback's", style="dim"),
        )
    return table

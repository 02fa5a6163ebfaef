"""Import labelled data in foreign formats.

Every reader yields one stream of text, label and line.
"""

from __future__ import annotations

from semroute.data.importing.records import ImportOptions
from semroute.data.importing.writing import (
    Gathered,
    Written,
    gather,
    plan_files,
    read_queries,
    read_source,
    write_categories,
)

__all__ = [
    "Gathered",
    "ImportOptions",
    "Written",
    "gather",
    "plan_files",
    "read_queries",
    "read_source",
    "write_categories",
]

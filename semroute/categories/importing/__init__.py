"""Import labelled data in foreign formats.

Every reader yields one stream of text, label and line.
"""

from __future__ import annotations

from semroute.categories.importing.gathering import Gathered, gather, read_queries, read_source
from semroute.categories.importing.records import ImportOptions
from semroute.categories.importing.writing import Written, plan_files, write_categories

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

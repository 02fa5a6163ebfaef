"""Category folders, labelled files and streams of queries, read into plain values."""

from __future__ import annotations

from semroute.categories.folder import read_categories
from semroute.categories.labelled import read_labelled
from semroute.categories.model import Category, CategorySet, Finding, LabelledQuery
from semroute.categories.queries import iter_queries, iter_queries_or_errors
from semroute.categories.shipped import shipped_folder

__all__ = [
    "Category",
    "CategorySet",
    "Finding",
    "LabelledQuery",
    "iter_queries",
    "iter_queries_or_errors",
    "read_categories",
    "read_labelled",
    "shipped_folder",
]

"""Readers of category folders, labelled files and streams of queries."""

from __future__ import annotations

from semroute.data.categories import read_categories, shipped_folder
from semroute.data.examples import Category, CategorySet, Finding, LabelledQuery
from semroute.data.queries import iter_queries, iter_queries_or_errors, read_labelled

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

"""Rules of prose for docstrings: a short summary, an imperative verb, no question word for a subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_SUMMARY = 72
"""Longest summary line, characters (PEP 8 asks for the same width of docstrings)."""
QUESTIONS = frozenset({"How", "That", "What", "Whatever", "Where", "Whether", "Which", "Who", "Whose", "Why"})
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


@cache
def summaries(folder: str) -> tuple[tuple[str, Documented, str], ...]:
    """Return the position, the node and the summary line of every docstring of a folder."""
    return tuple(_summaries(folder))


def _summaries(folder: str) -> Iterator[tuple[str, Documented, str]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Documented) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(ROOT)}:{node.body[0].lineno}", node, text.splitlines()[0]


def is_property(node: Documented) -> bool:
    """Return True for a method that reads as an attribute, and is described by a noun."""
    return any("property" in ast.unparse(one) for one in getattr(node, "decorator_list", []))


@pytest.mark.parametrize("folder", ["semroute", "scripts"])
def test_a_summary_fits_in_its_line(folder: str) -> None:
    found = summaries(folder)
    assert len(found) > 50
    assert [f"{where}: {summary}" for where, _, summary in found if len(summary) > MAX_SUMMARY] == []


@pytest.mark.parametrize("folder", ["semroute", "scripts"])
def test_a_summary_has_no_question_word_for_a_subject(folder: str) -> None:
    assert [f"{where}: {summary}" for where, _, summary in summaries(folder) if summary.split()[0] in QUESTIONS] == []


@pytest.mark.parametrize("folder", ["semroute", "scripts"])
def test_the_summary_of_a_function_begins_with_an_imperative(folder: str) -> None:
    """A third person ("Returns") and an article are the ways in which a summary is none."""
    wrong = [
        f"{where}: {summary}"
        for where, node, summary in summaries(folder)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_property(node)
        if (first := summary.split()[0].rstrip(".,:;")) in {"A", "An", "The", "True", "False"}
        or (first.endswith("s") and not first.endswith("ss"))
    ]
    assert wrong == []

"""Examples that stand more than once, inside a category and across categories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from semroute.categories.model import Finding
from semroute.categories.notes import Notes, shortened
from semroute.categories.parts import CategoryFile, Example


def once_each(content: CategoryFile, notes: Notes) -> CategoryFile:
    """``content`` with the first of equal examples; a warning for every other."""
    first: dict[str, Example] = {}
    for example in content.examples:
        kept = first.setdefault(example.text, example)
        if kept is not example:
            notes.warn(f"{shortened(example.text)} stands in line {kept.line} too; it is kept once", example.line)
    return replace(content, examples=tuple(first.values()))


def across_categories(files: Iterable[tuple[Path, CategoryFile]]) -> list[Finding]:
    """A finding for every example that more than one category holds, whatever its case and inner whitespace."""
    places: dict[str, dict[Path, Example]] = defaultdict(dict)
    for path, content in files:
        for example in content.examples:
            places[_normalised(example.text)].setdefault(path, example)
    findings = []
    for held in places.values():
        if len(held) < 2:
            continue
        (path, example), *others = held.items()
        where = " and ".join(f"{other.name}:{same.line}" for other, same in others)
        message = f"{shortened(example.text)} is an example in {where} too; keep it in the category where it belongs"
        findings.append(Finding(message, path, example.line))
    return findings


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())

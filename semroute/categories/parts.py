"""What one category file holds, before the folder is judged as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """An example query without surrounding whitespace, and the 1-based line at which it starts."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class CategoryFile:
    """The content of one file; see :class:`semroute.categories.model.Category`."""

    examples: tuple[Example, ...] = ()
    description: str = ""
    models: tuple[str, ...] = ()
    threshold: float | None = None
    name: str | None = None

"""What the files hold, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from semroute.errors import DataError


@dataclass(frozen=True, slots=True)
class Category:
    """A named domain with labelled example queries.

    Attributes:
        name: what the file calls it, else the file's name without its extension; in Unicode's composed form.
        description: what belongs here, for people and for the judge; empty where the file holds none.
        models: logical models, cheapest first; empty where the file names none.
        examples: example queries in the order of the file, without surrounding whitespace, each once.
        threshold: the score in [-1, 1] at which a query counts as fitting; None leaves it to the build.
        source: the file.
    """

    name: str
    description: str
    models: tuple[str, ...]
    examples: tuple[str, ...]
    threshold: float | None = None
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query and the category where it belongs.

    Attributes:
        query: its text.
        category: None for a query that is out of scope.
        written: the label where it is a word for "out of scope", such as ``oos``, which a category may have for a name.
        line: 1-based line of the file, of Parquet the row, where one is known.
    """

    query: str
    category: str | None
    written: str | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say of a file; ``str()`` puts file and line in front of the message.

    Attributes:
        message: what was found, and what to do about it.
        path: the file or folder.
        line: 1-based line in the file, where one is known.
    """

    message: str
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        return str(DataError(self.message, path=self.path, line=self.line))


@dataclass(frozen=True, slots=True)
class CategorySet:
    """The categories of a folder.

    Attributes:
        categories: sorted by name.
        findings: what is probably a mistake, though it can be used.
    """

    categories: tuple[Category, ...]
    findings: tuple[Finding, ...] = ()

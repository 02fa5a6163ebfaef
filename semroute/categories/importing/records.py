"""Records, options and notes that all readers share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from semroute.errors import DataError

LISTED_LINES = 5
"""Lines that are named for each reason to leave rows out."""


@dataclass(frozen=True, slots=True)
class ImportedRecord:
    """A text with its label.

    Attributes:
        text: as it stands in the file.
        label: the category's name as the file has it; None where the file says none, and its own name stands for it.
        line: 1-based line, of Parquet the row; None where there is none to tell.
    """

    text: str
    label: str | None
    line: int | None


Records: TypeAlias = Iterator[ImportedRecord]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options for files that can be read in more than one way.

    None leaves the choice to the file.

    Attributes:
        text: column of the texts.
        label: column of the labels.
        names: file with the names of labels that are numbers.
        table: key of the table to take, in a JSON object that holds several.
        header: whether the first record of a table names its columns.
        encoding: of the file; None takes UTF-8, or UTF-16 with its mark.
        several: what to do with a row of several labels.
        each: whether a line or a file is a text, in a folder for each category.
        outside: whether rows without a label, or with a word for "out of scope", are kept as they are: queries to
            evaluate and tune on may be out of scope, and examples may not.
    """

    text: str | None = None
    label: str | None = None
    names: Path | None = None
    table: str | None = None
    header: bool = True
    encoding: str | None = None
    several: Literal["skip", "first", "each"] = "skip"
    each: Literal["line", "file"] | None = None
    outside: bool = False


class ShapeError(DataError):
    """Error for a file without texts in any known shape.

    In a folder such a file is passed over.
    """


@dataclass(slots=True)
class Skipped:
    """Rows left out for one reason: their number and first lines."""

    count: int = 0
    lines: list[int] = field(default_factory=list)


class ImportNotes:
    """Guesses and left-out rows, by file.

    Attributes:
        guesses: file and sentence.
        skipped: by file and reason.
        descriptions: of categories, where the data have them.
        unlabelled: files whose texts have no label.
    """

    def __init__(self) -> None:
        self.guesses: list[tuple[Path, str]] = []
        self.skipped: dict[tuple[Path, str], Skipped] = {}
        self.descriptions: dict[str, str] = {}
        self.unlabelled: set[Path] = set()

    def guess(self, path: Path, message: str) -> None:
        """Note a guess once for each file."""
        if (path, message) not in self.guesses:
            self.guesses.append((path, message))

    def skip(self, path: Path, reason: str, line: int | None = None) -> None:
        """Note a row that is left out."""
        found = self.skipped.setdefault((path, reason), Skipped())
        found.count += 1
        if line is not None and len(found.lines) < LISTED_LINES:
            found.lines.append(line)

    def skipped_messages(self) -> list[tuple[Path, int | None, str]]:
        """Return file, first line and a sentence for each reason."""
        messages = []
        for (path, reason), found in self.skipped.items():
            rows = "1 row" if found.count == 1 else f"{found.count:,} rows"
            more = ", ..." if found.count > len(found.lines) else ""
            where = f" (lines {', '.join(map(str, found.lines))}{more})" if found.count > 1 and found.lines else ""
            messages.append((path, found.lines[0] if found.lines else None, f"{rows} left out: {reason}{where}"))
        return messages

"""What is found while a file is read, gathered so that the user hears of all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from semroute.categories.model import Finding
from semroute.errors import DataError

Report: TypeAlias = Callable[[str, int | None], None]
"""Takes a message and its 1-based line; readers of lines and rows know neither the file nor what a problem leads to."""

MAX_LISTED = 50
"""Problems that one error lists; a file of the wrong kind has one in every line."""


class Notes:
    """Problems, which make a file unusable, and warnings, which do not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Finding] = []
        self.warnings: list[Finding] = []

    def problem(self, message: str, line: int | None = None) -> None:
        self.problems.append(Finding(message, self.path, line))

    def warn(self, message: str, line: int | None = None) -> None:
        self.warnings.append(Finding(message, self.path, line))


def stop_at_first(path: Path) -> Report:
    """A report that raises: for a stream, whose later lines may not have been written yet."""

    def report(message: str, line: int | None) -> None:
        raise DataError(message, path=path, line=line)

    return report


def combined(problems: Sequence[Finding]) -> DataError:
    """All problems as one error, one line each; ``path`` and ``line`` are those of the first."""
    first, *others = problems
    lines = [first.message, *map(str, others[: MAX_LISTED - 1])]
    if len(problems) > MAX_LISTED:
        lines.append(f"... and {len(problems) - MAX_LISTED} more problems")
    return DataError("\n".join(lines), path=first.path, line=first.line)


def shortened(text: str, length: int = 60) -> str:
    """``text`` in quotes and on one line, for a message; what does not print is escaped."""
    flat = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text[: 4 * length].split()))
    return f'"{flat}"' if len(flat) <= length else f'"{flat[: length - 3]}..."'

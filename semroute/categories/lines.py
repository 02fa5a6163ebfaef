"""Bytes to numbered lines of text.

A line ends at ``\\n``, as editors and RFC 4180 count; Unicode's other separators are part of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from semroute.categories.notes import Report

Lines: TypeAlias = Iterable[tuple[int, str]]
"""1-based number and text, line end included."""


def decoded_lines(raw: Iterable[bytes], report: Report) -> Iterator[tuple[int, str]]:
    """Decode UTF-8 lazily, with or without a byte order mark; ends after reporting the first line that is not UTF-8."""
    for number, line in enumerate(raw, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            report("is not UTF-8 text; save the file as UTF-8", number)
            return


def file_lines(path: Path, report: Report) -> Iterator[tuple[int, str]]:
    """The lines of a file, read as they are asked for; a file that cannot be opened is reported and has none."""
    try:
        stream = path.open("rb")
    except (OSError, ValueError) as error:
        failure: Exception = error
    else:
        with stream:
            yield from decoded_lines(stream, report)
        return
    report(_why(failure), None)


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return "is a folder; name a file in it"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"

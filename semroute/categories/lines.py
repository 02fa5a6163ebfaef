"""Bytes to numbered lines of text.

A line ends at ``\\n``, as editors and RFC 4180 count; Unicode's other separators are part of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from semroute.categories.notes import Report

Lines: TypeAlias = Iterable[tuple[int, str]]
"""1-based number and text, line end included."""

MOST_BYTES = 8 << 20
"""Of one line or record: a query of a million words fits, and JSON of this length takes 300 MB at most as values."""


def decoded_lines(raw: Iterable[bytes], report: Report) -> Iterator[tuple[int, str]]:
    """Decode UTF-8 lazily, with or without a byte order mark.

    Ends after reporting the first line that is not UTF-8, or is longer than :data:`MOST_BYTES`.
    """
    for number, line in enumerate(raw, start=1):
        if len(line) > MOST_BYTES:
            report(too_long("line"), number)
            return
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
            yield from decoded_lines(bounded_lines(stream), report)
        return
    report(_why(failure), None)


def bounded_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Read lines of :data:`MOST_BYTES` at most, plus one byte of a longer one: a device may have no end."""
    return iter(lambda: stream.readline(MOST_BYTES + 1), b"")


def too_long(what: str) -> str:
    """The message for a line or record beyond :data:`MOST_BYTES`."""
    return f"the {what} is longer than {MOST_BYTES >> 20} MiB; shorten its text, or split it"


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return "is a folder; name a file in it"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"

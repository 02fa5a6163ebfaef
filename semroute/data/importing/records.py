"""Records, options and notes that all readers share."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from semroute.data.examples import NOT_IMPORTED, WORKBOOKS, way_on
from semroute.data.rows import MAX_LINE_BYTES, NOT_UTF_8, bounded_lines, decoded_lines, too_long
from semroute.errors import DataError

LISTED_LINES = 5
"""Lines that are listed for each reason to leave rows out."""


@dataclass(frozen=True, slots=True)
class ImportedRecord:
    """Text with its label.

    Attributes:
        text: text as in the file.
        label: label as in the file; None where it has none, and the file's name is the label.
        line: 1-based line, of Parquet the row; None where unknown.
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


class ImportShapeError(DataError):
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
        """Record a guess once for each file."""
        if (path, message) not in self.guesses:
            self.guesses.append((path, message))

    def skip(self, path: Path, reason: str, line: int | None = None) -> None:
        """Record a row that is left out."""
        skipped = self.skipped.setdefault((path, reason), Skipped())
        skipped.count += 1
        if line is not None and len(skipped.lines) < LISTED_LINES:
            skipped.lines.append(line)

    def skipped_messages(self) -> list[tuple[Path, int | None, str]]:
        """Return file, first line and a sentence for each reason."""
        messages = []
        for (path, reason), skipped in self.skipped.items():
            rows = "1 row" if skipped.count == 1 else f"{skipped.count:,} rows"
            ellipsis = ", ..." if skipped.count > len(skipped.lines) else ""
            location = (
                f" (lines {', '.join(map(str, skipped.lines))}{ellipsis})"
                if skipped.count > 1 and skipped.lines
                else ""
            )
            messages.append((path, skipped.lines[0] if skipped.lines else None, f"{rows} left out: {reason}{location}"))
        return messages


# Open files to import, packed or in other encodings, within bounds.

MAX_TEXT_BYTES = 32 << 20
"""Largest file that is read as a whole, JSON and YAML: as values it takes ten times as much."""
MIN_UNPACKED = 256 << 20
"""Bytes that any packed file may unpack to."""
MAX_RATIO = 100
"""Unpacked bytes for each byte of a larger file: text packs to a third, and repeated text to a fiftieth."""
_GZIP = b"\x1f\x8b"
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}
_FOREIGN = {
    b"PK\x03\x04": "is a zip archive or a workbook, whatever its name",
    b"\xd0\xcf\x11\xe0": "is an old Office document, whatever its name",
    b"SQLite format 3": "is a database",
    b"%PDF-": "is a PDF",
    b"ARROW1": "is an Arrow file",
}


class ImportSource:
    """File to import.

    Attributes:
        path: its path.
        suffix: its extension in lower case, that of a packed file without ``.gz``.

    Raises:
        DataError: it does not exist, is no file, or is of an unknown kind; the message names the remedy.
    """

    def __init__(self, path: Path, options: ImportOptions) -> None:
        self.path = path
        self._encoding = options.encoding
        if self._encoding is not None:
            _check_encoding(self._encoding)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise DataError("is not a regular file; name a file, or a folder of files", path=path)
            with path.open("rb") as stream:
                self.is_packed = stream.read(2) == _GZIP
        except FileNotFoundError:
            raise DataError("no such file or folder; check the path", path=path) from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=path) from error
        inner = Path(path.stem) if path.suffix.lower() == ".gz" else path
        self.suffix = inner.suffix.lower()
        self.stem = inner.stem
        if self.suffix in NOT_IMPORTED:
            kind = "is a workbook, and is not read" if self.suffix in WORKBOOKS else "is of a format that is not read"
            raise DataError(f"{kind}; {way_on(inner)}", path=path)
        self.head = self._head()
        marked = self.head.startswith((*_MARKS, b"PAR1"))
        if b"\0" in self.head and not marked and self._encoding is None and not self.head.startswith(tuple(_FOREIGN)):
            fix = "text in UTF-16 without its mark is read with --encoding utf-16-le"
            raise DataError(f"holds zero bytes, and is no text in UTF-8; {fix}", path=path)
        for magic, message in _FOREIGN.items():
            if self.head.startswith(magic):
                raise DataError(f"{message}; save it as CSV UTF-8, JSONL or Parquet", path=path)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the numbered lines lazily, with their ends.

        Raises:
            DataError: a line is too long or not of the encoding, or the file is damaged.
        """
        encoding = self._encoding or next((name for bom, name in _MARKS.items() if self.head.startswith(bom)), None)
        if b"\r" in self.head and b"\n" not in self.head:
            # Lines as programs of the old Macintosh end them, and a spreadsheet program still does when told to.
            yield from enumerate((line + "\n" for line in re.split("\r\n?|\n", self.text())), 1)
            return
        with self._opened() as stream:
            if encoding is None or encoding == "utf-8-sig":
                yield from decoded_lines(bounded_lines(stream), self._refuse)
                return
            with io.TextIOWrapper(stream, encoding=encoding, newline="\n") as text:
                try:
                    for number, line in enumerate(iter(lambda: text.readline(MAX_LINE_BYTES + 1), ""), 1):
                        if len(line) > MAX_LINE_BYTES:
                            self._refuse(too_long("line"), number)
                        yield number, line.removeprefix("\ufeff") if number == 1 else line
                except UnicodeError:
                    self._refuse(f"is not {encoding} text; name its encoding: --encoding NAME", None)

    def text(self) -> str:
        """Read the whole text.

        Raises:
            DataError: as :meth:`lines`, and for a file beyond :data:`MAX_TEXT_BYTES`.
        """
        with self._opened() as stream:
            raw = stream.read(MAX_TEXT_BYTES + 1)
        if len(raw) > MAX_TEXT_BYTES:
            self._refuse(f"is larger than {MAX_TEXT_BYTES >> 20} MiB; write it as JSONL, a row a line", None)
        bom = next((name for bom, name in _MARKS.items() if raw.startswith(bom)), None)
        encoding = self._encoding or bom or "utf-8"
        try:
            return raw.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            self._refuse(NOT_UTF_8, raw.count(b"\n", 0, error.start) + 1)
            raise

    def _refuse(self, message: str, line: int | None) -> None:
        if message == NOT_UTF_8:
            message = f'{message} ("CSV UTF-8" in a spreadsheet program), or name its encoding: --encoding cp1252'
        raise DataError(message, path=self.path, line=line)

    def _head(self) -> bytes:
        with self._opened() as stream:
            return stream.read(4096)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as raw:
                if not self.is_packed:
                    yield raw
                    return
                limit = max(MIN_UNPACKED, MAX_RATIO * self.path.stat().st_size)
                with (
                    gzip.GzipFile(fileobj=raw) as compressed,
                    io.BufferedReader(_Bounded(compressed, limit, self.path)) as data,
                ):
                    yield data
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"is damaged ({error}); pack it again", path=self.path) from error
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", path=self.path) from error


class _Bounded(io.RawIOBase):
    """Stream of unpacked bytes with an upper bound."""

    def __init__(self, compressed: gzip.GzipFile, limit: int, path: Path) -> None:
        self._compressed, self._remaining, self._path = compressed, limit, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._compressed.read1(len(buffer))
        self._remaining -= len(data)
        if self._remaining < 0:
            raise DataError(f"unpacks to more than {MAX_RATIO} times its size; unpack it yourself", path=self._path)
        buffer[: len(data)] = data
        return len(data)


def _check_encoding(name: str) -> None:
    try:
        is_text = codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise DataError(f'"{name}" is no encoding of text that is known; cp1252, latin-1 and utf-16 are frequent ones')

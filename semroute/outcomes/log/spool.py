"""Spool of outcomes for the database, in files that outlive a crash.

A process appends each outcome's rows to a file of its own before the answer is sent, and empties it when the database
has them. The files of a process that was killed are found by the next one that opens the log: their locks went with
it. Writing the same outcome twice is writing it once, by its id. What was appended survives the process, not a crash of
the machine: nothing waits for the disk.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from semroute.errors import StateError
from semroute.outcomes.log.schema import HEAD, Rows
from semroute.storage import lock_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".spool"
PORTION = 500
"""Outcomes of a killed process that are written in one transaction."""
WITHOUT_EFFORT = "0004"
"""Schema before calls had a reasoning effort, in whose rows the last column is missing."""
_TRIES = 5

log = logging.getLogger("semroute")
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Spool:
    """Two files of a process that take turns: append to one, drain the other.

    Not safe to share between threads; its owner locks. No method raises once it is open: where the disk is full, or the
    folder gone, outcomes wait in memory alone, which is reported once.

    Args:
        folder: made if it is missing.

    Raises:
        StateError: the folder cannot be written, or the system has no locks of files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[tuple[int, Path]] = []
        self._is_filled = [False, False]
        self._current, self._has_failed = 0, False
        self._open()

    def _open(self) -> None:
        if fcntl is None:
            raise StateError("log.spool: this system has no locks of files; leave it out")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files = [_locked_file(self._folder) for _ in range(2)]
        except OSError as error:
            raise StateError(f"log.spool: {self._folder} cannot be written: {error.strerror}") from error

    def append(self, rows: Rows) -> None:
        """Append the rows of an outcome to the current file."""
        if not self._files:
            return
        # The line's end comes first, so that a line that a full disk has cut spoils no other.
        line = b"\n" + _encode([HEAD, rows]).encode()
        try:
            os.write(self._files[self._current][0], line)
        except OSError as error:
            self._report(error)
        self._is_filled[self._current] = True

    def flip(self) -> None:
        """Append to the other file from now on, if it is empty.

        All outcomes of this one are being written.
        """
        if not self._is_filled[1 - self._current]:
            self._current = 1 - self._current

    def settle(self) -> None:
        """Empty the file that is not appended to: the database has its outcomes."""
        other = 1 - self._current
        if self._files and self._is_filled[other]:
            try:
                os.ftruncate(self._files[other][0], 0)
            except OSError as error:
                self._report(error)
            self._is_filled[other] = False

    def close(self, *, is_settled: bool) -> None:
        """Close the files; remove them if the database has all of their outcomes."""
        for number, path in self._files:
            if is_settled:
                path.unlink(missing_ok=True)
            os.close(number)
        self._files = []

    def reset_after_fork(self) -> None:
        """Leave the files to the parent, and begin others."""
        for number, _ in self._files:
            os.close(number)  # the parent's lock stays
        self._files, self._is_filled, self._current = [], [False, False], 0
        with suppress(StateError):
            self._open()

    def _report(self, error: OSError) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning("%s takes no outcomes (%s); they wait in memory alone", self._folder, error.strerror)


def replay(folder: Path, insert: Callable[[Rows], None]) -> int:
    """Write the outcomes of processes that were killed; return their number.

    Files of running processes are left alone, and so are those of another version of the log.

    Args:
        folder: of the spools; it may be missing.
        insert: writes rows, some of which may be there already.

    Raises:
        Exception: that of ``insert``; the file stays for another time.
    """
    count = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(FileNotFoundError), path.open("rb") as file:
            if not lock_file(file):
                continue
            found, is_whole = 0, True
            for rows in _portions(file.read().splitlines(), path):
                if rows is None:
                    is_whole = False
                    break
                insert(rows)
                found += len(rows[0])
            if is_whole:
                path.unlink(missing_ok=True)
            count += found
    if count:
        log.warning("outcomes of processes that were killed, which are in the log now: %d", count)
    return count


def _portions(lines: list[bytes], path: Path) -> Iterator[Rows | None]:
    """Yield the rows of some outcomes at a time.

    None, and nothing after it, for those of another version.
    """
    merged: Rows = ([], [], [], [])
    damaged = 0
    for line in filter(None, lines):
        try:
            version, rows = json.loads(line)
            if isinstance(version, str) and version not in (HEAD, WITHOUT_EFFORT):
                log.warning("%s was written by another version of semroute (schema %s): left as it is", path, version)
                yield None
                return
            tables = [[tuple(row) for row in table] for table in rows]
            if version == WITHOUT_EFFORT:
                tables[1] = [(*call, None) for call in tables[1]]
        except (ValueError, TypeError, IndexError):  # the last line of a process that was killed, or of a full disk
            damaged += 1
            continue
        for table, more in zip(merged, tables, strict=True):
            table.extend(more)
        if len(merged[0]) >= PORTION:
            yield merged
            merged = ([], [], [], [])
    if damaged:
        log.warning("%s: %d outcomes in it were not written whole, and are lost", path, damaged)
    if merged[0]:
        yield merged


def _locked_file(folder: Path) -> tuple[int, Path]:
    """Create a file that this process has locked, readable by its owner alone."""
    for _ in range(_TRIES):
        path = folder / f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        # Between these two lines another process may take it for that of a dead one, and remove it.
        if lock_file(number) and path.exists():
            return number, path
        os.close(number)
    raise OSError(0, "other processes take its files away")

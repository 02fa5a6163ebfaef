"""A file of outcomes that grows line by line, and may be gone on with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from semroute.errors import InputError
from semroute.whole import json_line


@contextmanager
def only_appender(path: Path) -> Iterator[None]:
    """Keep other processes from appending to a file: two that go on with it would both pay for what it lacks.

    The lock lies beside the file and outlives neither the process nor the machine; a hidden file of that name stays.
    What is no regular file, such as ``/dev/null``, needs no lock.

    Raises:
        InputError: another process appends to it, which the message names; or no lock can be made there.
    """
    file = path.resolve()
    if file.exists() and not file.is_file():
        yield
        return
    lock, holder = filelock.FileLock(file.with_name(f".{file.name}.lock")), file.with_name(f".{file.name}.writer")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise InputError(f"{path}: {_named(holder)} is adding to it; wait for its end, or name another file") from None
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be locked for writing ({why}); name a file in another folder") from error
    try:
        # A file of its own: whoever tries to take the lock empties that one.
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} ({Path(sys.argv[0]).name} {' '.join(sys.argv[1:2])})", "utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _named(holder: Path) -> str:
    """Return the process that a lock's holder has noted."""
    try:
        return holder.read_text("utf-8", "replace")[:200].strip() or "another process"
    except OSError:
        return "another process"


def written_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that a file holds already; none where it is not there.

    A last line that is only begun was being written when the program was stopped: it is cut off. One that is whole but
    for the end of the line, as some editors leave it, gets that.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    try:
        raw = path.read_bytes() if path.exists() else b""
        whole, last = raw[: raw.rfind(b"\n") + 1], raw[raw.rfind(b"\n") + 1 :]
        if isinstance(_parsed(last), dict):
            with path.open("ab") as file:
                file.write(b"\n")
            whole = raw + b"\n"
        elif last:
            with path.open("r+b") as file:
                file.truncate(len(whole))
    except OSError as error:
        raise InputError(f"{path}: cannot be used ({error.strerror or error})") from error
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        row = _parsed(line)
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a line of outcomes; name another file, or remove the line")
        rows.append(row)
    return rows


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def known_cells(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
    """What rows tell of each model, by query and task: the same query of two tasks is two rows of outcomes.

    Args:
        rows: of a file of outcomes, a query with all its models or with one; what is neither tells nothing. The
            empty string is no task.
    """
    known: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        outcomes = row.get("outcomes", {str(row.get("model")): row} if "model" in row else {})
        cells = known.setdefault((str(row.get("query")).strip(), str(row.get("task") or "").strip()), {})
        if isinstance(outcomes, dict):
            cells |= {model.strip(): cell for model, cell in outcomes.items() if isinstance(cell, dict)}
    return known


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line, whole.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with path.open("ab") as file:
            file.write(json_line(row).encode("utf-8", "replace") + b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error

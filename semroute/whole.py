"""Files that appear whole or not at all, folders that are ours, and JSON files read within bounds."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from semroute.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
WAIT_S = 60.0
"""How long a writer waits for another; to write takes a second, and what is written may have taken an hour."""
_PART = re.compile(r"\.(.+)\.[a-z0-9_]{8}")
PART_AGE_S = 60.0
"""Age from which a part without a lock is left from a writer that was killed; between making and locking one are
microseconds."""
UNLOCKED_PART_AGE_S = 86_400.0
"""The same where the system has no such locks: no file takes a day to write."""
_ENDS = {ord(end): ascii(end)[1:-1] for end in "\u2028\u2029"} | {0x85: "\\u0085"}
MOST_JSON_BYTES = 32 << 20
"""Of a JSON file of ours; the manifest of an index with a thousand categories has one."""


def claim_folder(folder: Path, mark: str, is_ours: Callable[[str], bool] = lambda name: False) -> None:
    """Make a folder, or take one that holds ``mark``: what else lies in a folder is somebody else's.

    Args:
        folder: where it lies.
        mark: a file that all folders of this kind hold.
        is_ours: whether an entry of that name may lie there without the mark, from a writer that was killed.

    Raises:
        InputError: it holds other files.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_folder(folder, mark, is_ours)


def check_folder(folder: Path, mark: str, is_ours: Callable[[str], bool] = lambda name: False) -> None:
    """Refuse a folder that :func:`own_folder` would refuse, before the work is done whose results are to lie there.

    Raises:
        InputError: it holds other files, or cannot be written or made.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{folder}: cannot be written; name another folder")
    if there != folder or (folder / mark).is_file():
        return
    if any(not (is_ours(path.name) or _is_left(path.name, mark, is_ours)) for path in folder.iterdir()):
        raise InputError(f"{folder}: holds other files; name a new folder")


@contextmanager
def exclusive_folder(folder: Path, mark: str, is_ours: Callable[[str], bool] = lambda name: False) -> Iterator[None]:
    """A folder of ours (:func:`own_folder`) that no other process or thread writes to; what a killed one left is gone.

    Raises:
        InputError: it holds other files, or another writer does not end.
        OSError: it cannot be made.
    """
    claim_folder(folder, mark, is_ours)
    import filelock

    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=WAIT_S)
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is writing there; wait for it to end") from None
    try:
        for path in folder.iterdir():
            if path.name != LOCK and _is_left(path.name, mark, is_ours):
                path.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _is_left(name: str, mark: str, is_ours: Callable[[str], bool]) -> bool:
    """Whether it is a lock, or a part of a file that was never put in its place."""
    part = _PART.fullmatch(name)
    return name == LOCK or (part is not None and (part[1] == mark or is_ours(part[1])))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write; it takes its place at the end, and is gone after an error.

    Others may read it as far as the umask lets them, and no more than they could read the file that it replaces.

    Raises:
        OSError: it cannot be written.
    """
    collect_parts(path)
    part, made = _begun_part(path)
    with made:
        if fcntl is None:
            made.close()  # an open file cannot be renamed there
        else:
            # Held until the part is in its place, and let go by the system when this process ends, however it ends.
            _lock(made)
        try:
            yield part
            sync(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def collect_parts(path: Path) -> None:
    """Remove the parts of ``path`` that writers left which were killed; those of living writers stay."""
    with suppress(OSError):
        for part in path.parent.iterdir():
            found = _PART.fullmatch(part.name)
            if found is not None and found[1] == path.name:
                with suppress(OSError):
                    _collect(part)


def _collect(part: Path) -> None:
    status = part.lstat()
    age_s = time.time() - status.st_mtime
    if not stat.S_ISREG(status.st_mode) or age_s < PART_AGE_S:
        return
    with part.open("rb") as file:
        if age_s >= UNLOCKED_PART_AGE_S if fcntl is None else _lock(file):
            part.unlink(missing_ok=True)


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file for this process; False where another one has it, or the file system knows no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """Read a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, is nested too deeply, is larger than ``most_bytes``, or is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        # A pipe or a device may have no end.
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        raw = file.read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise ValueError(f"larger than {most_bytes >> 20} MiB")
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_line(value: object) -> str:
    """A value as one line of JSON, without its end, for every reader of lines.

    Readable in every script, but for the three characters beyond ASCII at which Python's ``splitlines`` and others end
    a line (NEL, LS and PS): these are escaped.
    """
    return json.dumps(value, ensure_ascii=False).translate(_ENDS)


def _begun_part(path: Path) -> tuple[Path, IO[bytes]]:
    """Create and open a file beside ``path``, with the permissions that the file in its place will have."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Not the 0600 of tempfile: the system alone knows the umask of every thread, and a folder's default permissions.
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with suppress(FileNotFoundError):
        part.chmod(stat.S_IMODE(os.fstat(handle).st_mode & path.stat().st_mode) | stat.S_IRUSR | stat.S_IWUSR)
    return part, os.fdopen(handle, "wb")


def sync(path: Path) -> None:
    """Have a file on the disk: without it a power cut could leave a manifest that names empty files."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())

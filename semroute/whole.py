"""Files that appear whole or not at all, and folders that are ours."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from semroute.errors import InputError

LOCK = ".lock"
WAIT_S = 60.0
"""How long a writer waits for another; to write takes a second, and what is written may have taken an hour."""
_PART = re.compile(r"\.(.+)\.[a-z0-9_]{8}")


def own_folder(folder: Path, mark: str, is_ours: Callable[[str], bool] = lambda name: False) -> None:
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
def only_writer(folder: Path, mark: str, is_ours: Callable[[str], bool] = lambda name: False) -> Iterator[None]:
    """A folder of ours (:func:`own_folder`) that no other process or thread writes to; what a killed one left is gone.

    Raises:
        InputError: it holds other files, or another writer does not end.
        OSError: it cannot be made.
    """
    own_folder(folder, mark, is_ours)
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
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write; it takes its place at the end, and is gone after an error.

    Others may read it as far as the umask lets them, and no more than they could read the file that it replaces.

    Raises:
        OSError: it cannot be written.
    """
    part = _begun_part(path)
    try:
        yield part
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _begun_part(path: Path) -> Path:
    """Create an empty file beside ``path``, with the permissions that the file in its place will have."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Not the 0600 of tempfile: the system alone knows the umask of every thread, and a folder's default permissions.
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        made = os.fstat(handle).st_mode
    finally:
        os.close(handle)
    with suppress(FileNotFoundError):
        part.chmod(stat.S_IMODE(made & path.stat().st_mode) | stat.S_IRUSR | stat.S_IWUSR)
    return part


def sync(path: Path) -> None:
    """Have a file on the disk: without it a power cut could leave a manifest that names empty files."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())

"""Atomic file writes, exclusive folders, and trained artifacts on disk.

An artifact is a folder: a JSON manifest for people and checks, the arrays without pickle, and further files. The
manifest is replaced last; one process writes at a time, and what it replaces stays until the next write.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from semroute.arrays import read_npz
from semroute.errors import ArtifactError, InputError

# Atomic writes, exclusive marked folders, and JSON files read within bounds.

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
WAIT_S = 60.0
"""Longest wait of a writer for another: a write takes a second, and its content may have taken an hour."""
_PART = re.compile(r"\.(.+)\.[a-z0-9_]{8}")
PART_AGE_S = 60.0
"""Age from which an unlocked part is taken for one of a killed writer; from creation to lock takes microseconds."""
UNLOCKED_PART_AGE_S = 86_400.0
"""The same where the system has no file locks: no file takes a day to write."""
_ENDS = {ord(end): ascii(end)[1:-1] for end in "\u2028\u2029"} | {0x85: "\\u0085"}
MAX_JSON_BYTES = 32 << 20
"""Largest JSON file of ours; the manifest of an index with a thousand categories has 1 MiB."""


def claim_folder(folder: Path, marker: str, is_ours: Callable[[str], bool] = lambda name: False) -> None:
    """Create a folder, or claim one that holds the marker ``marker``.

    Other files in a folder are never touched.

    Args:
        folder: its path.
        marker: name of the marker file, which every folder of this kind holds.
        is_ours: whether an entry of that name may exist without the marker, from a writer that was killed.

    Raises:
        InputError: it holds other files.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_folder(folder, marker, is_ours)


def check_folder(folder: Path, marker: str, is_ours: Callable[[str], bool] = lambda name: False) -> None:
    """Refuse a folder that :func:`claim_folder` would refuse.

    Call it before the work whose results the folder is for.

    Raises:
        InputError: it holds other files, or cannot be written or made.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"{folder}: cannot be written; name another folder")
    if existing != folder or (folder / marker).is_file():
        return
    if any(not (is_ours(path.name) or _is_leftover(path.name, marker, is_ours)) for path in folder.iterdir()):
        raise InputError(f"{folder}: holds other files; name a new folder")


@contextmanager
def exclusive_folder(folder: Path, marker: str, is_ours: Callable[[str], bool] = lambda name: False) -> Iterator[None]:
    """Claim a folder (:func:`claim_folder`) and lock it against other writers.

    The lock excludes other processes and threads; files that a killed writer left are removed.

    Raises:
        InputError: it holds other files, or another writer does not end.
        OSError: it cannot be made.
    """
    claim_folder(folder, marker, is_ours)
    import filelock

    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=WAIT_S)
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is writing there; wait for it to end") from None
    try:
        for path in folder.iterdir():
            if path.name != LOCK and _is_leftover(path.name, marker, is_ours):
                path.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _is_leftover(name: str, marker: str, is_ours: Callable[[str], bool]) -> bool:
    """Return True for a lock file, or for a part that was not completed."""
    part = _PART.fullmatch(name)
    return name == LOCK or (part is not None and (part[1] == marker or is_ours(part[1])))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` at the end.

    It is removed after an error.

    Its permissions follow the umask, and never exceed those of the file that it replaces.

    Raises:
        OSError: it cannot be written.
    """
    collect_parts(path)
    part, handle = _open_part(path)
    with handle:
        if fcntl is None:
            handle.close()  # an open file cannot be renamed there
        else:
            # Held until the part has replaced the file, and released by the system however this process ends.
            lock_file(handle)
        try:
            yield part
            sync(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def collect_parts(path: Path) -> None:
    """Remove parts of ``path`` that killed writers left.

    Those of living writers stay.
    """
    with suppress(OSError):
        for part in path.parent.iterdir():
            match = _PART.fullmatch(part.name)
            if match is not None and match[1] == path.name:
                with suppress(OSError):
                    _collect(part)


def _collect(part: Path) -> None:
    status = part.lstat()
    age_s = time.time() - status.st_mtime
    if not stat.S_ISREG(status.st_mode) or age_s < PART_AGE_S:
        return
    with part.open("rb") as file:
        if age_s >= UNLOCKED_PART_AGE_S if fcntl is None else lock_file(file):
            part.unlink(missing_ok=True)


def lock_file(file: IO[bytes] | int) -> bool:
    """Lock an open file, or its descriptor, for this process.

    False if another process has locked it, or the file system has no locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_json(path: Path, most_bytes: int = MAX_JSON_BYTES) -> Any:
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
    """Return a value as one line of JSON, without the line end.

    Readable in every script, but for the three characters beyond ASCII at which Python's ``splitlines`` and others end
    a line (NEL, LS and PS): these are escaped.
    """
    return json.dumps(value, ensure_ascii=False).translate(_ENDS)


def _open_part(path: Path) -> tuple[Path, IO[bytes]]:
    """Create and open a part of ``path``, with its final permissions."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Not the 0600 of tempfile: the system alone knows the umask of every thread, and a folder's default permissions.
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with suppress(FileNotFoundError):
        part.chmod(stat.S_IMODE(os.fstat(handle).st_mode & path.stat().st_mode) | stat.S_IRUSR | stat.S_IWUSR)
    return part, os.fdopen(handle, "wb")


def sync(path: Path) -> None:
    """Flush a file to disk.

    Without it a power cut could leave a manifest that names empty files.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


# Content-addressed files: a new one never replaces another that is still read.

_HASHED = re.compile(r"[a-z]+-[0-9a-f]{16}\.\w+")


def is_hashed(name: str) -> bool:
    """Return True if the name is that of a content-addressed file."""
    return _HASHED.fullmatch(name) is not None


def store_file(folder: Path, name: str, suffix: str, content: bytes) -> dict[str, str]:
    """Write a file named by its hash; return its entry for the manifest."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{name}-{digest[:16]}{suffix}"
    with atomic_write(path) as part:
        part.write_bytes(content)
    return {"file": path.name, "sha256": digest}


def is_special(path: Path) -> bool:
    """Return True if a path is there and no regular file, such as a pipe.

    One look decides: between two, another process may have removed it.
    """
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # a name that no file can have
        return False


def checked_file(folder: Path, entry: Any) -> tuple[Path, bytes]:
    """Return path and content of a manifest entry's file, checked by its hash.

    Raises:
        FileNotFoundError: it is not there.
        ArtifactError: it cannot be read, or is damaged.
    """
    try:
        path, wanted = folder / Path(str(entry["file"])).name, entry["sha256"]
        if is_special(path):
            raise ValueError(f"{path.name} is not a regular file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    # ValueError: a name that no file can have.
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder}: a file of it cannot be read ({error}); train it again") from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ArtifactError(f"{path}: damaged, its SHA-256 is not the one in the manifest; train it again")
    return path, content


# Types of a manifest's values: people edit JSON, and tools rewrite it.

_MAX_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Kind:
    """Type of a manifest value.

    Attributes:
        name: for people, such as "a list of texts".
        fits: whether a value has the type.
    """

    name: str
    fits: Callable[[Any], bool]

    def problem(self, key: str, value: object) -> str | None:
        """Return why the value of a key has the wrong type; None if it fits."""
        if self.fits(value):
            return None
        shown = json.dumps(value)
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
        return f'"{key}" must be {self.name}, not {shown}'


def _is_number(value: Any) -> bool:
    # JSON as Python reads it may hold NaN, infinity, and whole numbers that are too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


TEXT = Kind("text", lambda value: isinstance(value, str))
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
NUMBER = Kind("a number", _is_number)
SHARE = Kind("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
WORTH = Kind("a number from 0, or null", lambda value: value is None or (_is_number(value) and value >= 0))


MANIFEST = "classifier.json"
Arrays = Mapping[str, NDArray[Any]]


_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """Content of an artifact folder.

    Attributes:
        manifest: its keys.
        arrays: by name.
        files: further files, by name.
    """

    manifest: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    files: dict[str, Path]


@dataclass(frozen=True, slots=True)
class ArrayFolder:
    """Format of an artifact folder.

    Attributes:
        format: the manifest's ``format``.
        version: of the format; others are refused.
        what: for people, such as "classifier of answers".
        command: command that creates one; the folder's name is appended.
        keys: required keys of the manifest besides ``format``, ``version`` and ``arrays``, and their types.
    """

    format: str
    version: int
    what: str
    command: str
    keys: Mapping[str, Kind]

    def write(
        self, folder: Path, manifest: Mapping[str, Any], arrays: Arrays, files: Mapping[str, Path] | None = None
    ) -> None:
        """Write the artifact; replace an existing one in one step.

        Args:
            folder: created where it is missing.
            manifest: JSON-ready.
            arrays: by name.
            files: copied into the folder, by name.

        Raises:
            InputError: the folder holds something else, or cannot be written.
        """
        try:
            with exclusive_folder(folder, MANIFEST, is_hashed):
                self._write(folder, manifest, arrays, files or {})
        except OSError as error:
            raise InputError(f"{folder}: the {self.what} cannot be written ({error.strerror or error})") from error

    def _write(self, folder: Path, manifest: Mapping[str, Any], arrays: Arrays, files: Mapping[str, Path]) -> None:
        stream = io.BytesIO()
        all_arrays: dict[str, Any] = dict(arrays)
        np.savez_compressed(stream, **all_arrays)
        names_before = self._names(folder)
        stored = store_file(folder, "weights", ".npz", stream.getvalue())
        copied = {name: store_file(folder, name, path.suffix, path.read_bytes()) for name, path in files.items()}
        manifest_written = {
            "format": self.format,
            "version": self.version,
            "arrays": stored,
            "files": copied,
            **manifest,
        }
        # A reader begins with the manifest: until it is replaced, the old arrays are in force.
        with atomic_write(folder / MANIFEST) as part:
            part.write_text(json.dumps(manifest_written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        # Those of the generation before stay until the next: a reader that has its manifest still finds them.
        referenced = names_before | _named(manifest_written)
        for stale in folder.iterdir():
            if stale.name not in referenced and is_hashed(stale.name):
                stale.unlink(missing_ok=True)

    def _names(self, folder: Path) -> set[str]:
        """Return the manifest's file names; none without a valid manifest."""
        try:
            return _named(self.manifest(folder))
        except ArtifactError:
            return set()

    def check(self, folder: Path) -> None:
        """Refuse a folder that cannot be written to, before any training.

        Raises:
            InputError: it holds something else, or cannot be written.
        """
        check_folder(folder, MANIFEST, is_hashed)

    def manifest(self, folder: Path) -> dict[str, Any]:
        """Return the manifest, with its format, version and keys checked.

        Raises:
            ArtifactError: there is none, or it is not one of this kind; names the file, and the key that is wrong.
        """
        path = folder / MANIFEST
        try:
            manifest = read_json(path)
        except FileNotFoundError:
            raise ArtifactError(f"{folder}: no {self.what} is there; make one with: {self.command} {folder}") from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); train it again") from error
        is_ours = isinstance(manifest, dict) and manifest.get("format") == self.format
        if not is_ours or not {*self.keys, "arrays"} <= set(manifest):
            raise ArtifactError(f"{path}: not the manifest of a {self.what}")
        version = manifest.get("version")
        if isinstance(version, bool) or version != self.version:
            raise ArtifactError(f"{path}: version {version}, and this is {self.version}; train it again")
        for key, kind in {"arrays": OBJECT, "files": OBJECT, **self.keys}.items():
            # Artifacts from before there were files have no such key.
            problem = kind.problem(key, manifest.get(key, {}))
            if problem is not None:
                raise ArtifactError(f"{path}: {problem}; train it again")
        return dict(manifest)

    def read(self, folder: Path) -> Stored:
        """Return manifest, arrays and further files, with their hashes checked.

        Raises:
            ArtifactError: missing, damaged, foreign, or of another version; the message names the remedy.
        """
        for attempt in range(_ATTEMPTS):
            manifest = self.manifest(folder)
            try:
                return self._open(folder, manifest)
            except FileNotFoundError as error:
                # Writers may have replaced it twice since the manifest was read: read it again.
                if attempt + 1 < _ATTEMPTS and self.manifest(folder) != manifest:
                    continue
                raise ArtifactError(
                    f"{folder}: a file of it cannot be read ({error.filename} is missing); train it again"
                ) from error
        raise AssertionError  # the last attempt returns or raises

    def _open(self, folder: Path, manifest: dict[str, Any]) -> Stored:
        path, content = checked_file(folder, manifest["arrays"])
        files = {name: checked_file(folder, entry)[0] for name, entry in manifest.get("files", {}).items()}
        try:
            return Stored(manifest, read_npz(content), files)
        except ValueError as error:
            raise ArtifactError(f"{path}: not the arrays of a {self.what} ({error}); train it again") from error


def _named(manifest: Mapping[str, Any]) -> set[str]:
    entries = [manifest["arrays"], *manifest.get("files", {}).values()]
    return {str(entry.get("file")) for entry in entries if isinstance(entry, dict)}

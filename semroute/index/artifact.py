"""Atomic writes and verified reads of the artifact folder of an index.

Files are named by their hash and the manifest is replaced last, so a reader sees the old artifact or the new one. Files
of the previous generation are kept until the next write: a reader that opened the old manifest still finds them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semroute.arrays import read_npy
from semroute.errors import ArtifactBusyError, ArtifactError
from semroute.index.manifest import FORMAT, MANIFEST, FileEntry, FirstStageEntry, Manifest, check_manifest
from semroute.storage import sync
from semroute.types import Matrix

FIRST = "first_"
"""Prefix of the roles of first-stage files."""
LOCK = ".lock"
STAGING = ".staging-"
"""Prefix of staging folders; those left by a killed build are removed when the next one starts."""
_HASHED = re.compile(r"[a-z_]+-[0-9a-f]{16}\.[a-z]+")


@dataclass(frozen=True, slots=True)
class StageParts:
    """Manifest entry, encoder description and files of one stage.

    Attributes:
        entry: its part of the manifest.
        encoder: description of its encoder, with the names of its files.
        prototypes: number of prototypes of each category.
        files: verified path of each file, by role without prefix.
    """

    entry: Manifest | FirstStageEntry
    encoder: Mapping[str, Any]
    prototypes: tuple[int, ...]
    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Artifact with a parsed manifest and verified files.

    Attributes:
        folder: the artifact folder.
        manifest: the parsed manifest.
        files: verified path of each file, by role.
    """

    folder: Path
    manifest: Manifest
    files: Mapping[str, Path]

    def examples(self) -> tuple[list[str], list[str]]:
        """Return the categories and texts of the stored examples.

        Both are in the order of the rows of ``vectors``.

        Raises:
            ArtifactError: they are unusable.
            FileNotFoundError: the artifact was replaced since it was opened.
        """
        path = self.files.get("examples", self.folder / "examples")
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            categories, texts = [row["category"] for row in rows], [row["query"] for row in rows]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path}: the stored examples are unusable ({error}); build the index again") from error
        if not all(isinstance(value, str) for value in (*categories, *texts)):
            raise ArtifactError(f"{path}: a stored example is not text; build the index again")
        return categories, texts

    def vectors(self) -> Matrix:
        """Return the ``(n, d)`` unit vectors of the examples, memory-mapped.

        Raises:
            KeyError, ValueError: there are none, or they are damaged.
            FileNotFoundError: the artifact was replaced since it was opened.
        """
        return read_npy(self.files["vectors"], mmap_mode="r")

    @property
    def main(self) -> StageParts:
        """Parts of the index's own encoder and scorer."""
        counts = tuple(entry.prototypes for entry in self.manifest.categories.values())
        return _parts(self.manifest, counts, self.files)

    @property
    def first(self) -> StageParts | None:
        """Parts of the first stage; None without one.

        Raises:
            ArtifactError: it is for other categories, or its encoder has no files of its own.
        """
        entry = self.manifest.first_stage
        if entry is None:
            return None
        if entry.encoder.get("kind") not in ("static", "onnx"):
            raise ArtifactError(f"{self.folder}: the encoder of the first stage has no files; build the index again")
        if set(entry.prototypes) != set(self.manifest.categories):
            raise ArtifactError(f"{self.folder}: the first stage is for other categories; build the index again")
        counts = tuple(entry.prototypes[name] for name in self.manifest.categories)
        files = {role.removeprefix(FIRST): path for role, path in self.files.items() if role.startswith(FIRST)}
        return _parts(entry, counts, files)


@dataclass(frozen=True, slots=True)
class MemoryArtifact(Artifact):
    """Artifact that was built in memory, without a folder and without files.

    Attributes:
        owners: category of each stored example.
        texts: the stored examples.
        matrix: ``(n, d)`` their unit vectors.
    """

    owners: tuple[str, ...]
    texts: tuple[str, ...]
    matrix: Matrix

    def examples(self) -> tuple[list[str], list[str]]:
        """Return the categories and texts of the examples, in order of rows."""
        return list(self.owners), list(self.texts)

    def vectors(self) -> Matrix:
        """Return the ``(n, d)`` unit vectors of the examples."""
        return self.matrix


IN_MEMORY = Path("(in memory)")
"""Stands for the folder of a :class:`MemoryArtifact` in messages."""


def _parts(entry: Manifest | FirstStageEntry, counts: tuple[int, ...], files: Mapping[str, Path]) -> StageParts:
    names = {role.removeprefix("encoder_"): path.name for role, path in files.items() if role.startswith("encoder_")}
    return StageParts(entry, {**entry.encoder, "files": names}, counts, files)


def open_artifact(folder: Path) -> Artifact:
    """Read the manifest and verify every file's SHA-256.

    Raises:
        ArtifactError: missing, foreign, damaged, altered, or of another version.
    """
    for attempt in range(3):
        manifest = Manifest.read(folder)
        check_manifest(manifest, folder)
        files = {role: folder / entry.name for role, entry in manifest.files.items()}
        try:
            for role, path in files.items():
                _verify(path, manifest.files[role])
        except FileNotFoundError as error:
            # A writer may have replaced the artifact twice since the manifest was read: read it again.
            if attempt < 2 and Manifest.read(folder) != manifest:
                continue
            raise ArtifactError(f"{error.filename}: missing from the index; build it again") from error
        return Artifact(folder, manifest, files)
    raise ArtifactError(f"{folder}: the index is being replaced faster than it can be read")


def write_artifact(
    folder: Path,
    manifest: Manifest,
    write: Callable[[Path], Mapping[str, Path]],
    *,
    replaces: Manifest | None = None,
) -> Artifact:
    """Write an artifact atomically; on failure the old one keeps serving.

    Args:
        folder: created if missing; must be empty or hold an artifact.
        manifest: everything but ``files``.
        write: gets a staging folder, writes the files there (or names existing ones elsewhere, which are copied)
            and returns them by role.
        replaces: the manifest that the new one was derived from, if any; None replaces any artifact.

    Raises:
        ArtifactError: the folder holds something else, or another artifact than ``replaces``, or cannot be written (a
            full disk, say).
        ArtifactBusyError: another process is writing here.
    """
    with exclusive(folder):
        previous = _previous(folder)
        if replaces is not None and [entry.to_json() for entry in previous] != [replaces.to_json()]:
            raise ArtifactError(f"{folder}: the index was replaced in the meantime; nothing was written, run it again")
        with _staged(folder) as staging:
            # A file of the manifest that is replaced was verified when it was opened.
            known_files = {entry.name: entry for entry in replaces.files.values()} if replaces is not None else {}
            files = {role: _store_file(path, folder, staging, known_files) for role, path in write(staging).items()}
            complete = replace(manifest, files=files)
            text = staging / MANIFEST
            # Half of a surrogate pair, which UTF-8 cannot hold, becomes the JSON escape of the same character.
            text.write_text(complete.to_json(), encoding="utf-8", errors="backslashreplace")
            sync(text)
            text.replace(folder / MANIFEST)
        _collect(folder, keep=[complete, *previous])
        return Artifact(folder, complete, {role: folder / entry.name for role, entry in files.items()})


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock the folder against other writers, processes and threads.

    Re-entrant: the thread that holds the lock may acquire it again.

    Raises:
        ArtifactError: the folder holds something else than an artifact, or cannot be made or written.
        ArtifactBusyError: another process or thread holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be made ({error.strerror or error})") from error
    _refuse_foreign(folder)
    import filelock

    lock = filelock.FileLock(folder / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ArtifactBusyError(f"{folder}: another build is writing this index; wait for it to end") from None
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror or error})") from error
    try:
        if lock.lock_counter == 1:  # otherwise this thread's own folder is among them
            for leftover in folder.glob(STAGING + "*"):  # of a build that was killed
                shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def _refuse_foreign(folder: Path) -> None:
    """Raise ArtifactError unless the folder is empty or holds an index.

    A folder with a semroute manifest, complete or damaged, may hold other files too.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
        start = (folder / MANIFEST).read_bytes()[:200] if MANIFEST in names else b""
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be read ({error.strerror or error})") from error
    if FORMAT.encode() in start:
        return
    foreign_names = [name for name in names if not _is_artifact_file(name)]
    # Web pages and extensions have a manifest.json too; next to hashed files it is our own, damaged.
    if start and not any(_HASHED.fullmatch(name) for name in names):
        foreign_names.append(MANIFEST)
    if foreign_names:
        raise ArtifactError(f"{folder}: not empty, and not an index ({foreign_names[0]}, …); choose another folder")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Yield a staging folder; on failure remove files added to ``folder``."""
    existing = {path.name for path in folder.iterdir()}
    staging = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
        yield staging
    except BaseException as error:
        for path in folder.iterdir():
            if path.name not in existing and _HASHED.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ArtifactError(f"{folder}: the index could not be written ({error.strerror or error})") from error
        raise
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _previous(folder: Path) -> list[Manifest]:
    try:
        return [Manifest.read(folder)]
    except ArtifactError:
        return []


def _store_file(path: Path, folder: Path, staging: Path, known_files: Mapping[str, FileEntry]) -> FileEntry:
    """Move a staged file to its name by hash, unless that exists.

    A file outside the staging folder is copied.
    """
    if path.parent == folder and path.name in known_files:
        path.stat()  # verified when the index was opened; it may have gone since
        return known_files[path.name]
    sha256 = _sha256(path)
    target = folder / f"{path.stem.split('-')[0]}-{sha256[:16]}{path.suffix}"
    if not target.exists() or _sha256(target) != sha256:
        if not path.is_relative_to(staging):
            path = Path(shutil.copyfile(path, staging / f"copy-{path.name}"))
        sync(path)
        path.replace(target)
    return FileEntry(target.name, sha256)


def _collect(folder: Path, keep: list[Manifest]) -> None:
    names = {entry.name for manifest in keep for entry in manifest.files.values()} | {MANIFEST, LOCK}
    for path in folder.iterdir():
        if _is_artifact_file(path.name) and path.is_file() and path.name not in names:
            path.unlink(missing_ok=True)


def _is_artifact_file(name: str) -> bool:
    return name in (MANIFEST, LOCK) or name.startswith(STAGING) or _HASHED.fullmatch(name) is not None


def _verify(path: Path, entry: FileEntry) -> None:
    try:
        # A pipe or a device may have no end.
        is_file = stat.S_ISREG(path.stat().st_mode)
        actual = _sha256(path) if is_file else ""
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not is_file:
        raise ArtifactError(f"{path}: cannot be read (not a regular file); build the index again")
    if actual != entry.sha256:
        raise ArtifactError(f"{path}: altered or damaged (its SHA-256 is not the manifest's); build the index again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

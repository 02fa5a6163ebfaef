"""What is trained as a folder: a JSON manifest for people and checks, beside it the arrays, without pickle, and files
that are no arrays. The manifest is replaced last; one process writes at a time, and what it replaces stays until the
next write."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.arrays import read_npz
from semroute.errors import ArtifactError, InputError
from semroute.heads.hashed import checked_file, is_hashed, store_file
from semroute.heads.kinds import OBJECT, Kind
from semroute.whole import atomic_write, check_folder, exclusive_folder, read_json

MANIFEST = "classifier.json"
Arrays = Mapping[str, NDArray[Any]]


_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """What a folder holds.

    Attributes:
        manifest: its keys.
        arrays: by name.
        files: those beside the arrays, by name.
    """

    manifest: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    files: dict[str, Path]


@dataclass(frozen=True, slots=True)
class ArrayFolder:
    """A kind of folder.

    Attributes:
        format: what the manifest calls itself.
        version: of the format; others are refused.
        what: for people, such as "classifier of answers".
        command: makes one; the folder's name is put after it.
        keys: of the manifest, beside ``format``, ``version`` and ``arrays``, that must be there, and what they are.
    """

    format: str
    version: int
    what: str
    command: str
    keys: Mapping[str, Kind]

    def write(
        self, folder: Path, manifest: Mapping[str, Any], arrays: Arrays, files: Mapping[str, Path] | None = None
    ) -> None:
        """Write it; one that is there already is replaced in one step.

        Args:
            folder: made where it is missing.
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
        named: dict[str, Any] = dict(arrays)
        np.savez_compressed(stream, **named)
        before = self._names(folder)
        stored = store_file(folder, "weights", ".npz", stream.getvalue())
        copied = {name: store_file(folder, name, path.suffix, path.read_bytes()) for name, path in files.items()}
        whole = {"format": self.format, "version": self.version, "arrays": stored, "files": copied, **manifest}
        # A reader begins with the manifest: until it is replaced, the old arrays are the ones that count.
        with atomic_write(folder / MANIFEST) as part:
            part.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        # Those of the generation before stay until the next: a reader that has its manifest still finds them.
        kept = before | _named(whole)
        for old in folder.iterdir():
            if old.name not in kept and is_hashed(old.name):
                old.unlink(missing_ok=True)

    def _names(self, folder: Path) -> set[str]:
        """The files that the manifest names; none where there is no manifest of this kind."""
        try:
            return _named(self.manifest(folder))
        except ArtifactError:
            return set()

    def check(self, folder: Path) -> None:
        """Refuse a folder that could not be written to, before anything is trained.

        Raises:
            InputError: it holds something else, or cannot be written.
        """
        check_folder(folder, MANIFEST, is_hashed)

    def manifest(self, folder: Path) -> dict[str, Any]:
        """The manifest, checked for kind and version, and its keys for what they must be.

        Raises:
            ArtifactError: there is none, or it is not one of this kind; names the file, and the key that is wrong.
        """
        path = folder / MANIFEST
        try:
            found = read_json(path)
        except FileNotFoundError:
            raise ArtifactError(f"{folder}: no {self.what} is there; make one with: {self.command} {folder}") from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); train it again") from error
        is_ours = isinstance(found, dict) and found.get("format") == self.format
        if not is_ours or not {*self.keys, "arrays"} <= set(found):
            raise ArtifactError(f"{path}: not the manifest of a {self.what}")
        version = found.get("version")
        if isinstance(version, bool) or version != self.version:
            raise ArtifactError(f"{path}: version {version}, and this is {self.version}; train it again")
        for key, kind in {"arrays": OBJECT, "files": OBJECT, **self.keys}.items():
            # Artifacts from before there were files have no such key.
            problem = kind.problem(key, found.get(key, {}))
            if problem is not None:
                raise ArtifactError(f"{path}: {problem}; train it again")
        return dict(found)

    def read(self, folder: Path) -> Stored:
        """The manifest, the arrays and the other files, checked to be whole.

        Raises:
            ArtifactError: missing, damaged, foreign, or of another version; the message says what to do.
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

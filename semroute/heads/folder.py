"""What is trained as a folder: a JSON manifest for people and checks, beside it the arrays, without pickle, and files
that are no arrays. Each is named by its hash, and the manifest is replaced last."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from semroute.errors import ArtifactError, InputError
from semroute.heads.kinds import OBJECT, Kind
from semroute.whole import own_folder, whole_file

MANIFEST = "classifier.json"
_OURS = re.compile(r"[a-z]+-[0-9a-f]{16}\.\w+")
Arrays = Mapping[str, NDArray[Any]]


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
            own_folder(folder, MANIFEST)
            stream = io.BytesIO()
            named: dict[str, Any] = dict(arrays)
            np.savez_compressed(stream, **named)
            stored = {"arrays": _store(folder, "weights", ".npz", stream.getvalue())}
            copied = {
                name: _store(folder, name, path.suffix, path.read_bytes()) for name, path in (files or {}).items()
            }
            whole = {"format": self.format, "version": self.version, **stored, "files": copied, **manifest}
            # A reader begins with the manifest: until it is replaced, the old arrays are the ones that count.
            with whole_file(folder / MANIFEST) as part:
                part.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            kept = {MANIFEST, *(entry["file"] for entry in (*stored.values(), *copied.values()))}
            for old in folder.iterdir():
                if old.name not in kept and _OURS.fullmatch(old.name):
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: the {self.what} cannot be written ({error.strerror or error})") from error

    def manifest(self, folder: Path) -> dict[str, Any]:
        """The manifest, checked for kind and version, and its keys for what they must be.

        Raises:
            ArtifactError: there is none, or it is not one of this kind; names the file, and the key that is wrong.
        """
        path = folder / MANIFEST
        try:
            found = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ArtifactError(f"{folder}: no {self.what} is there; make one with: {self.command} {folder}") from None
        except (OSError, ValueError, RecursionError) as error:
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

    def read(self, folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The manifest and the arrays, checked to be whole.

        Raises:
            ArtifactError: missing, damaged, foreign, or of another version; the message says what to do.
        """
        manifest = self.manifest(folder)
        path, content = _checked(folder, manifest["arrays"])
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return manifest, {name: arrays[name] for name in arrays.files}
        except (ValueError, BadZipFile, EOFError) as error:
            raise ArtifactError(f"{path}: not the arrays of a {self.what}; train it again") from error

    def files(self, folder: Path, manifest: Mapping[str, Any]) -> dict[str, Path]:
        """The files beside the arrays, by name, checked to be whole.

        Raises:
            ArtifactError: one is missing or damaged.
        """
        return {name: _checked(folder, entry)[0] for name, entry in manifest.get("files", {}).items()}


def _store(folder: Path, name: str, suffix: str, content: bytes) -> dict[str, str]:
    """Write a file that is named by its hash; gives its entry in the manifest."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{name}-{digest[:16]}{suffix}"
    with whole_file(path) as part:
        part.write_bytes(content)
    return {"file": path.name, "sha256": digest}


def _checked(folder: Path, entry: Any) -> tuple[Path, bytes]:
    """The file of an entry, and what it holds."""
    try:
        path, wanted = folder / Path(str(entry["file"])).name, entry["sha256"]
        content = path.read_bytes()
    # ValueError: a name that no file can have.
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder}: a file of it cannot be read ({error}); train it again") from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ArtifactError(f"{path}: damaged, its SHA-256 is not the one in {MANIFEST}; train it again")
    return path, content

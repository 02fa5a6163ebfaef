"""What is trained as a folder: a JSON manifest for people and checks, and beside it the arrays, without pickle."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from semroute.errors import ArtifactError, InputError
from semroute.whole import own_folder, whole_file

MANIFEST = "classifier.json"
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ArrayFolder:
    """A kind of folder.

    Attributes:
        format: what the manifest calls itself.
        version: of the format; others are refused.
        what: for people, such as "classifier of answers".
        command: makes one; the folder's name is put after it.
        keys: of the manifest, beside ``format``, ``version`` and ``arrays``, that must be there.
    """

    format: str
    version: int
    what: str
    command: str
    keys: frozenset[str]

    def write(self, folder: Path, manifest: Mapping[str, Any], arrays: Arrays) -> None:
        """Write it; one that is there already is replaced in one step.

        Args:
            folder: made where it is missing.
            manifest: JSON-ready.
            arrays: by name.

        Raises:
            InputError: the folder holds something else, or cannot be written.
        """
        try:
            own_folder(folder, MANIFEST)
            stream = io.BytesIO()
            named: dict[str, Any] = dict(arrays)
            np.savez_compressed(stream, **named)
            content = stream.getvalue()
            digest = hashlib.sha256(content).hexdigest()
            path = folder / f"weights-{digest[:16]}.npz"
            whole = {
                "format": self.format, "version": self.version, "arrays": {"file": path.name, "sha256": digest},
                **manifest,
            }  # fmt: skip
            with whole_file(path) as part:
                part.write_bytes(content)
            # A reader begins with the manifest: until it is replaced, the old arrays are the ones that count.
            with whole_file(folder / MANIFEST) as part:
                part.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            for old in folder.glob("weights-*.npz"):
                if old != path:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: the {self.what} cannot be written ({error.strerror or error})") from error

    def manifest(self, folder: Path) -> dict[str, Any]:
        """The manifest, checked for kind and version.

        Raises:
            ArtifactError: there is none, or it is not one of this kind.
        """
        path = folder / MANIFEST
        try:
            found = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ArtifactError(f"{folder}: no {self.what} is there; make one with: {self.command} {folder}") from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); train it again") from error
        is_ours = isinstance(found, dict) and found.get("format") == self.format
        if not is_ours or not self.keys | {"arrays"} <= set(found):
            raise ArtifactError(f"{path}: not the manifest of a {self.what}")
        if found.get("version") != self.version:
            raise ArtifactError(f"{path}: version {found.get('version')}, and this is {self.version}; train it again")
        return dict(found)

    def read(self, folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The manifest and the arrays, checked to be whole.

        Raises:
            ArtifactError: missing, damaged, foreign, or of another version; the message says what to do.
        """
        manifest = self.manifest(folder)
        try:
            path, wanted = folder / str(manifest["arrays"]["file"]), manifest["arrays"]["sha256"]
            content = path.read_bytes()
        except (OSError, KeyError, TypeError) as error:
            raise ArtifactError(f"{folder}: its arrays cannot be read ({error}); train it again") from error
        if hashlib.sha256(content).hexdigest() != wanted:
            raise ArtifactError(f"{path}: damaged, its SHA-256 is not the one in {MANIFEST}; train it again")
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return manifest, {name: arrays[name] for name in arrays.files}
        except (ValueError, BadZipFile, EOFError) as error:
            raise ArtifactError(f"{path}: not the arrays of a {self.what}; train it again") from error

"""Files that are named by their hash, so that a new one never takes the place of another that is still read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from semroute.errors import ArtifactError
from semroute.whole import atomic_write

_HASHED = re.compile(r"[a-z]+-[0-9a-f]{16}\.\w+")


def is_hashed(name: str) -> bool:
    """Whether a file of that name is one of these."""
    return _HASHED.fullmatch(name) is not None


def store_file(folder: Path, name: str, suffix: str, content: bytes) -> dict[str, str]:
    """Write a file that is named by its hash; gives its entry in the manifest."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{name}-{digest[:16]}{suffix}"
    with atomic_write(path) as part:
        part.write_bytes(content)
    return {"file": path.name, "sha256": digest}


def checked_file(folder: Path, entry: Any) -> tuple[Path, bytes]:
    """The file of an entry, and what it holds.

    Raises:
        FileNotFoundError: it is not there.
        ArtifactError: it cannot be read, or is damaged.
    """
    try:
        path, wanted = folder / Path(str(entry["file"])).name, entry["sha256"]
        if path.exists() and not path.is_file():
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

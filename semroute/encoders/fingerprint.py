"""Fingerprints of encoders.

A fingerprint changes whenever the same text could get another vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def of_files(*paths: Path) -> str:
    """Return the hex SHA-256 over the contents of ``paths``, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def of_text(*parts: str) -> str:
    """Return the hex SHA-256 over ``parts``, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


def of_arrays(arrays: Mapping[str, NDArray[Any]], *parts: str) -> str:
    """Return the hex SHA-256 over named arrays and ``parts``.

    Arrays are taken in the order of their names.
    """
    digest = hashlib.sha256(of_text(*parts).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(of_text(name, str(array.dtype), str(array.shape)).encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()

"""Manifests in which one value was put in another's place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from semroute.errors import ArtifactError
from semroute.storage import MANIFEST

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def paths(manifest: dict[str, Any]) -> list[tuple[str, ...]]:
    """Every key, and the keys of those that name files."""
    return [(key,) for key in manifest] + [("arrays", "file"), ("arrays", "sha256")]


def read_damaged(folder: Path, path: tuple[str, ...], value: object, read: Callable[[Path], Any]) -> Any:
    """What is read with ``value`` at ``path``; None where the folder is refused as it should be.

    The manifest is as it was afterwards.
    """
    whole = (folder / MANIFEST).read_text()
    changed = json.loads(whole)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (folder / MANIFEST).write_text(json.dumps(changed))
    try:
        return read(folder)
    except ArtifactError as error:
        if str(folder) not in str(error):
            raise AssertionError(f"does not name its folder: {error}") from error
        return None
    finally:
        (folder / MANIFEST).write_text(whole)

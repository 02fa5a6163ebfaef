"""Where the artifact is: argument, environment, configuration, or built once from the shipped categories."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path

import platformdirs

from semroute import __version__
from semroute.config import Config
from semroute.errors import ArtifactBusyError
from semroute.index.manifest import MANIFEST
from semroute.types.progress import Progress

ENVIRONMENT = "SEMROUTE_INDEX"
WAIT_S = 600.0
"""How long a process waits for another one that builds the shipped index."""

log = logging.getLogger("semroute")


def locate_index(index: Path | str | None, config: Config) -> Path | None:
    """The artifact folder that was asked for: the argument, else ``SEMROUTE_INDEX``, else the configuration's if it
    is there; None when there is none and the shipped categories are to serve.

    The default folder is taken unasked, whoever made it, so an index must be able to do nothing but route: it is data
    (:func:`semroute.router.live.LoadedIndex.open`). The configuration is not: it is the user's word, as a Makefile is,
    and names where queries and keys are sent.
    """
    if index is not None:
        return Path(index)
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    configured = Path(config.index)
    # A configuration that names another folder than the default one means it: its absence is an error, not a default.
    if (configured / MANIFEST).exists() or not config.has_default_index:
        return configured
    return None


def shipped_index(progress: Progress = lambda step, done, total: None) -> Path:
    """The index of the shipped categories in the user's cache folder, built there on first use (about 30 s).

    Raises:
        MissingExtraError: it has to be built, and the extra "build" is not installed.
        ArtifactError: the cache folder cannot be written.
    """
    from semroute.categories import shipped_folder

    found = built_shipped_index()
    if found is not None:
        return found
    source = shipped_folder()
    folder = _shipped_at(source)
    from semroute.learn.pipeline import build_index

    log.info("building the index of the shipped categories once, in %s", folder)
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            build_index(source, folder, progress=progress)
        except ArtifactBusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        if (folder / MANIFEST).exists():
            return folder


def built_shipped_index() -> Path | None:
    """Find the index of the shipped categories in the user's cache folder; None where it was not built yet."""
    from semroute.categories import shipped_folder

    folder = _shipped_at(shipped_folder())
    return folder if (folder / MANIFEST).exists() else None


def _shipped_at(source: Path) -> Path:
    return platformdirs.user_cache_path("semroute") / f"shipped-{__version__}-{_digest(source)}"


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.yaml")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]

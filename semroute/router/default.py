"""Default router of a program, which :func:`route` opens and keeps."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from semroute.config.schema import DEFAULT_INDEX
from semroute.dispatch.constraints import Preference
from semroute.index.manifest import MANIFEST
from semroute.router.load import ENVIRONMENT
from semroute.router.router import Router
from semroute.types import Decision, Query


def route(
    query: Query,
    *,
    index: Path | str | None = None,
    config: Path | str | None = None,
    prefer: Preference | None = None,
) -> Decision:
    """Route one query by the artifact that :meth:`Router.load` finds.

    It is loaded once and kept. The artifact, ``SEMROUTE_INDEX`` and the working folder are looked up at every call, so
    another folder is another router; an artifact replaced on disk is picked up within a second. ``prefer`` is that of
    :meth:`Router.route`.
    """
    configured = Path("semroute.yaml" if config is None else config)
    key = (
        None if index is None else str(index),
        os.environ.get(ENVIRONMENT),
        str(Path.cwd()),
        None if config is None else str(config),
        _changed(configured),
        # An index that is built after the first call must be found by the next one.
        (DEFAULT_INDEX / MANIFEST).exists(),
    )
    return _kept(key).route(query, prefer=prefer)


@lru_cache(maxsize=8)
def _kept(key: tuple[str | None, str | None, str, str | None, int | None, bool]) -> Router:
    return Router.load(key[0], config=key[3], reload_every_s=1.0)


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None

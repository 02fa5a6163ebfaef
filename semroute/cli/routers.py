"""The artifact that a command works on, with a bar where it has to be built first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.index import Artifact
    from semroute.router import Router


def open_router(index: Path | None, config_path: Path | None, *, state_file: Path | None = None) -> Router:
    """The router that ``--index`` and ``--config`` name; the shipped categories' where there is none."""
    from semroute.cli.progress import progress_bars
    from semroute.router import Router

    with progress_bars() as progress:
        return Router.load(index, config=config_path, state_file=state_file, progress=progress)


def own_artifact(index: Path | None, config: Config) -> Artifact:
    """The user's artifact, for a command that changes it; never the shared one of the shipped categories.

    Raises:
        ArtifactError: there is none, or it cannot be used.
    """
    from semroute.index import open_artifact
    from semroute.router.locate import locate_index

    return open_artifact(locate_index(index, config) or config.index)


def any_artifact(index: Path | None, config_path: Path | None) -> Artifact:
    """The artifact that would serve, for a command that only looks; the shipped categories' where there is none.

    Raises:
        ArtifactError: it cannot be used.
    """
    from semroute.cli.progress import progress_bars
    from semroute.config import load_config
    from semroute.index import open_artifact
    from semroute.router.locate import locate_index, shipped_index

    with progress_bars() as progress:
        return open_artifact(locate_index(index, load_config(config_path)) or shipped_index(progress))

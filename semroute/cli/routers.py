"""The artifact that a command works on, with a bar where it has to be built first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.index import Artifact
    from semroute.outcomes.log import OutcomeLog
    from semroute.router import Router


def open_router(
    index: Path | None,
    config_path: Path | None,
    *,
    state_file: Path | None = None,
    log: OutcomeLog | Literal[False] = False,
) -> Router:
    """The router that ``--index`` and ``--config`` name; the shipped categories' where there is none."""
    from semroute.cli.progress import progress_bars
    from semroute.router import Router

    with progress_bars() as progress:
        return Router.load(index, config=config_path, state_file=state_file, log=log, progress=progress)


@contextmanager
def logging_router(
    index: Path | None, config_path: Path | None, *, state_file: Path | None = None, is_wanted: bool = True
) -> Iterator[Router]:
    """The router of a command that answers queries: their outcomes are kept unless the configuration says otherwise.

    ``is_wanted`` is False where the command's user says that nothing is to be kept, which goes over the configuration.
    """
    from semroute.config import load_config

    with command_log(load_config(config_path), is_wanted=is_wanted) as log:
        yield open_router(index, config_path, state_file=state_file, log=log or False)


@contextmanager
def command_log(config: Config, *, is_wanted: bool = True) -> Iterator[OutcomeLog | None]:
    """The log of a command that answers queries; one that cannot be opened is reported, and stops nobody."""
    from semroute.cli.console import print_warning
    from semroute.errors import MissingExtraError, StateError

    if config.log.enabled is False or not is_wanted:
        yield None
        return
    from semroute.outcomes.log import open_log

    try:
        log = open_log(config.log, os.environ)
    except (StateError, MissingExtraError) as error:
        print_warning(f"nothing is logged: {error}")
        yield None
        return
    with log:
        yield log


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

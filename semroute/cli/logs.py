"""The log that a command reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.outcomes.log import OutcomeLog


def read_log(log_url: str | None, config_path: Path | None) -> tuple[OutcomeLog, Config]:
    """The log that ``--log`` and ``--config`` name, which must be there, and the configuration.

    Raises:
        StateError: there is none, or it cannot be opened.
        ConfigError: the configuration, or the address, cannot be used.
    """
    from pydantic import ValidationError

    from semroute.config import load_config
    from semroute.config.explain import said_of
    from semroute.config.log import Log
    from semroute.errors import ConfigError
    from semroute.outcomes.log import open_log

    config = load_config(config_path)
    section = config.log
    if log_url is not None:
        try:
            section = Log.model_validate({**section.model_dump(), "url": log_url})
        except ValidationError as error:
            raise ConfigError(said_of(error).removeprefix("url: "), key="--log") from None
    return open_log(section, os.environ, must_exist=True), config

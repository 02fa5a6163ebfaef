"""Sections of one file laid over a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from semroute.config.explain import explain
from semroute.config.load import config_error, read
from semroute.config.problem import Problem
from semroute.config.schema import CONFLICT, Config
from semroute.config.yaml_lines import YamlError, parse
from semroute.errors import ConfigError


def overlaid(config: Config, path: Path) -> Config:
    """The configuration with the sections of a file in place of its own; of ``categories`` each category's keys.

    Raises:
        ConfigError: the file cannot be read, or what comes of it is not valid.
    """
    try:
        document = parse(read(path))
    except YamlError as error:
        raise ConfigError(str(error), path=path, line=error.line) from None
    if not isinstance(document.data, dict):
        raise ConfigError("must be a mapping of keys to values", path=path)
    whole: dict[str, Any] = config.model_dump(by_alias=True, exclude_unset=True)
    whole.pop("trial", None)
    sections = dict(document.data)
    named = sections.get("categories")
    if isinstance(named, dict) and all(isinstance(own, dict) for own in named.values()):
        before = whole.get("categories", {})
        sections["categories"] = {**before, **{name: {**before.get(name, {}), **own} for name, own in named.items()}}
    try:
        return Config.model_validate({**whole, **sections})
    except ValidationError as error:
        found = [
            Problem("error", "", detail["msg"], "") if detail["type"] == CONFLICT else explain(detail, document)
            for detail in error.errors()
        ]
        raise config_error(path, found) from None

"""Sections of one file laid over a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semroute.config.load import config_error, problems_of, read
from semroute.config.paths import context
from semroute.config.schema import Config
from semroute.config.yaml_lines import YamlError, parse
from semroute.errors import ConfigError


def overlaid(config: Config, path: Path) -> Config:
    """Lay the sections of a file over a configuration; of ``categories`` each category's keys.

    Relative paths in the file begin at its folder; what is not there is looked for beside the configuration, as if the
    sections stood in it.

    Raises:
        ConfigError: the file cannot be read, or what comes of it is not valid.
    """
    try:
        document = parse(read(path, missing="name the policy.yaml of semroute tune-policy", key="trial.policy"))
    except YamlError as error:
        raise ConfigError(str(error), path=path, line=error.line) from None
    if not isinstance(document.data, dict):
        raise ConfigError("must be a mapping of keys to values", path=path)
    # Sections that are valid already are handed over as they are: their paths begin where they should.
    whole: dict[str, Any] = {name: getattr(config, name) for name in config.model_fields_set if name != "trial"}
    sections = dict(document.data)
    named = sections.get("categories")
    if isinstance(named, dict) and all(isinstance(own, dict) for own in named.values()):
        before = {name: own.model_dump(by_alias=True, exclude_unset=True) for name, own in config.categories.items()}
        sections["categories"] = {**before, **{name: {**before.get(name, {}), **own} for name, own in named.items()}}
    made, problems = problems_of({**whole, **sections}, document, context(path.parent, config.file_folder))
    if made is None:
        raise config_error(path, problems)
    return made

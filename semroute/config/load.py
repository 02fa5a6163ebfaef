"""Read ``semroute.yaml``: every problem of the file at once, each with file, line, key and fix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from semroute.config.conflicts import conflicts
from semroute.config.problem import Problem
from semroute.config.schema import CONFLICT, Config
from semroute.errors import ConfigError

if TYPE_CHECKING:
    from semroute.config.yaml_lines import Document

DEFAULT_NAME = "semroute.yaml"
MOST_PROBLEMS = 200
"""Problems that are worked out for one file; one of another kind has one in every line."""


def load_config(path: Path | str | None = None) -> Config:
    """Read a configuration.

    Args:
        path: the file; None reads ``semroute.yaml`` in the working folder where there is one, else gives the defaults.

    Raises:
        ConfigError: the file cannot be read or is not a valid configuration. The message has one line for each problem;
            ``line`` and ``key`` are those of the first.
    """
    if path is None:
        path = Path(DEFAULT_NAME)
        if not path.exists():
            return Config.default()
    path = Path(path)
    config, problems = validate(read(path))
    if config is None:
        raise config_error(path, problems)
    return config


def read(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: it is missing, a folder, unreadable or not UTF-8.
    """
    from semroute.config.yaml_lines import MOST_BYTES

    try:
        # One byte beyond the limit is enough to be refused by it: a device or a pipe may have no end.
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError('no such file; write one with "semroute init"', path=path) from None
    except IsADirectoryError:
        raise ConfigError("is a folder; name the file in it", path=path) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=path) from error
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"is larger than {MOST_BYTES / 2**20:g} MiB; name a configuration", path=path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text; save it as UTF-8", path=path, line=line) from None


def validate(text: str) -> tuple[Config | None, tuple[Problem, ...]]:
    """The configuration that ``text`` holds, or None and everything that is wrong with it, in the order of the file."""
    from semroute.config.explain import explain
    from semroute.config.yaml_lines import YamlError, parse

    try:
        document = parse(text)
    except YamlError as problem:
        return None, (Problem("error", "", str(problem), problem.fix, problem.line),)
    if document.data is not None and not isinstance(document.data, dict):
        return None, (
            Problem("error", "", "must be a mapping of keys to values", 'such as "index: .semroute/index"', 1),
        )
    problems = [*document.repeated, *_located(conflicts(document.data), document)]
    config = None
    try:
        config = Config.model_validate(document.data or {})
    except ValidationError as error:
        found = [detail for detail in error.errors(include_input=False) if detail["type"] != CONFLICT]
        problems += [explain(detail, document) for detail in found[:MOST_PROBLEMS]]
        if len(found) > MOST_PROBLEMS:
            rest = Problem("error", "", f"{len(found) - MOST_PROBLEMS:,} more problems", "correct these first")
            return None, (*sorted(problems, key=lambda problem: problem.line or 0), rest)
    if not problems:
        return config, ()
    return None, tuple(sorted(problems, key=lambda problem: problem.line or 0))


def config_error(path: Path, problems: Sequence[Problem]) -> ConfigError:
    """All problems of a file as one error, a line each."""
    first, *others = problems
    lines = [first.text, *(str(ConfigError(p.text, path=path, line=p.line, key=p.key or None)) for p in others)]
    return ConfigError("\n".join(lines), path=path, line=first.line, key=first.key or None)


def _located(problems: Sequence[Problem], document: Document) -> list[Problem]:
    from semroute.config.explain import path_of

    return [Problem(p.severity, p.key, p.message, p.fix, document.line(path_of(p.key.split(".")))) for p in problems]

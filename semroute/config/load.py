"""Read ``semroute.yaml``: every problem of the file at once, each with file, line, key and fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from semroute.config.conflicts import conflicts
from semroute.config.log import DEFAULT_URL
from semroute.config.paths import SQLITE, Context, context, is_there
from semroute.config.problem import Problem
from semroute.config.schema import CONFLICT, DEFAULT_INDEX, Config
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
    config, problems = validate(read(path), path.parent)
    if config is None:
        raise config_error(path, problems)
    return config


def read(path: Path, *, missing: str = 'write one with "semroute init"', key: str | None = None) -> str:
    """Read the text of a configuration file.

    Args:
        path: the file.
        missing: what to do where there is none.
        key: that names it, where another file does.

    Raises:
        ConfigError: it is missing, a folder, unreadable or not UTF-8.
    """
    from semroute.config.yaml_lines import MOST_BYTES

    try:
        # One byte beyond the limit is enough to be refused by it: a device or a pipe may have no end.
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"no such file; {missing}", path=path, key=key) from None
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


def validate(text: str, folder: Path | None = None) -> tuple[Config | None, tuple[Problem, ...]]:
    """Read a configuration from text.

    Args:
        text: of the file.
        folder: of the file, at which its relative paths begin; None is the working folder.

    Returns:
        The configuration, or None and everything that is wrong, in the order of the file.
    """
    from semroute.config.yaml_lines import YamlError, parse

    try:
        document = parse(text)
    except YamlError as problem:
        return None, (Problem("error", "", str(problem), problem.fix, problem.line),)
    if document.data is not None and not isinstance(document.data, dict):
        return None, (
            Problem("error", "", "must be a mapping of keys to values", 'such as "index: .semroute/index"', 1),
        )
    config, problems = problems_of(document.data or {}, document, None if folder is None else context(folder))
    return None if config is None else _beside_the_file(config), problems


def problems_of(
    data: Mapping[Any, Any], document: Document, context: Context | None
) -> tuple[Config | None, tuple[Problem, ...]]:
    """Validate the sections of a file, or of a file laid over others.

    Args:
        data: the sections.
        document: the file that is to blame for what is wrong.
        context: where its relative paths begin.
    """
    problems, config, more = list(document.repeated), None, 0
    try:
        config = Config.model_validate(data, context=context)
    except ValidationError as error:
        from semroute.config.explain import explained

        found = error.errors(include_input=False, include_url=False)
        if any(detail["type"] == CONFLICT for detail in found):
            problems += _located(found[0]["ctx"]["problems"], document)
        else:
            problems += _located(conflicts(document.data), document)
            problems += explained(found[:MOST_PROBLEMS], document)
            more = len(found) - MOST_PROBLEMS
    if not problems:
        return config, ()
    problems.sort(key=lambda problem: problem.line or 0)
    if more > 0:
        problems.append(Problem("error", "", f"{more:,} more problems", "correct these first"))
    return None, tuple(problems)


def _beside_the_file(config: Config) -> Config:
    """Take index, log and state of a trial that lie beside the file, where it leaves their keys out.

    Where nothing lies there they begin at the working folder, as they do without a file.
    """
    folder, log, trial = config.file_folder, config.log, config.trial
    index, state = folder / DEFAULT_INDEX, folder / trial.state
    database = folder / DEFAULT_URL.removeprefix(SQLITE)
    found: dict[str, object] = {}
    if "index" not in config.model_fields_set and is_there(index):
        found["index"] = index
    if "url" not in log.model_fields_set and is_there(database):
        found["log"] = log.model_copy(update={"url": f"{SQLITE}{database}"})
    if "state" not in trial.model_fields_set and is_there(state):
        found["trial"] = trial.model_copy(update={"state": state})
    return config.model_copy(update=found) if found else config


def config_error(path: Path, problems: Sequence[Problem]) -> ConfigError:
    """All problems of a file as one error, a line each."""
    first, *others = problems
    lines = [first.text, *(str(ConfigError(p.text, path=path, line=p.line, key=p.key or None)) for p in others)]
    return ConfigError("\n".join(lines), path=path, line=first.line, key=first.key or None)


def with_lines(problems: Iterable[Problem], text: str) -> list[Problem]:
    """Add the lines of a file's keys to problems that have none."""
    from semroute.config.yaml_lines import parse

    document = parse(text)
    return [problem if problem.line is not None else _with_line(problem, document) for problem in problems]


def _with_line(problem: Problem, document: Document) -> Problem:
    from semroute.config.explain import path_of

    return replace(problem, line=document.line(path_of(problem.key.split("."))))


def _located(problems: Iterable[Problem], document: Document) -> list[Problem]:
    return [_with_line(problem, document) for problem in problems]

"""Loader of ``semroute.yaml``, with file, line, key and fix per problem.

All problems of a file are reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from semroute.config.conflicts import conflicts
from semroute.config.extensions import refuse_built_in, with_plugins
from semroute.config.schema import CONFLICT, DEFAULT_INDEX, DEFAULT_URL, Config
from semroute.config.values import BAD_VALUE, SQLITE, Context, Problem, context, dotted, is_there
from semroute.errors import ConfigError
from semroute.plugins import Plugins, installed
from semroute.text.names import did_you_mean

if TYPE_CHECKING:
    from semroute.config.yaml_lines import Document

DEFAULT_NAME = "semroute.yaml"
MAX_PROBLEMS = 200
"""Most problems that are reported for one file; a file of another kind has one in every line."""


def load_config(
    path: Path | str | Mapping[str, Any] | None = None,
    *,
    strategies: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    encoders: Mapping[str, Any] | None = None,
    providers: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration of a file, or of a mapping.

    Args:
        path: the file, or its sections as a mapping; None reads ``semroute.yaml`` in the working folder where there is
            one, else the defaults.
        strategies: factories of strategies that the configuration may name, see
            :class:`semroute.strategies.base.StrategyFactory`.
        checks: factories of checks, see :class:`semroute.cascade.checks.CheckFactory`.
        encoders: factories of encoders, see :class:`semroute.encoders.plugin.EncoderFactory`.
        providers: factories of adapters, see :class:`semroute.providers.adapter.AdapterFactory`.

    Raises:
        ConfigError: the file cannot be read or is not a valid configuration. The message has one line for each problem;
            ``line`` and ``key`` are those of the first.
        PluginError: a factory has the name of a built-in one.
    """
    plugins = Plugins.of(strategies=strategies, checks=checks, encoders=encoders, providers=providers)
    refuse_built_in(plugins)
    if isinstance(path, Mapping):
        return _of_mapping(path, plugins)
    if path is None:
        path = Path(DEFAULT_NAME)
        if not path.exists():
            return Config.default()
    path = Path(path)
    config, problems = validate(read(path), path.parent, plugins)
    if config is None:
        raise config_error(path, problems)
    return config


def configured(config: Config | Mapping[str, Any] | Path | str | None, **plugins: Mapping[str, Any] | None) -> Config:
    """Return a configuration as it is, or load it with plugins.

    Args:
        config: a configuration, or what :func:`load_config` takes.
        plugins: factories of plugins by kind, as :func:`load_config` takes them.

    Raises:
        ConfigError: as :func:`load_config`; or plugins are handed in beside a configuration, which is valid already and
            names none of them.
        PluginError: as :func:`load_config`.
    """
    if not isinstance(config, Config):
        return load_config(config, **plugins)
    if any(plugins.values()):
        message = "plugins are handed in beside a Config, which cannot name them any more"
        raise ConfigError(f"{message}: hand them to load_config, or hand in the sections or the file here")
    return config


def _of_mapping(sections: Mapping[str, Any], plugins: Plugins) -> Config:
    from semroute.config.yaml_lines import Document

    config, problems = problems_of(sections, Document(sections), with_plugins(None, plugins))
    if config is None:
        first, *others = problems
        lines = [first.text, *(str(ConfigError(problem.text, key=problem.key or None)) for problem in others)]
        raise ConfigError("\n".join(lines), key=first.key or None)
    return config


def read(path: Path, *, missing: str = 'write one with "semroute init"', key: str | None = None) -> str:
    """Return the text of a configuration file.

    Args:
        path: the file.
        missing: what to do where there is none.
        key: key that names it in another file, where one does.

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


def validate(
    text: str, folder: Path | None = None, plugins: Plugins | None = None
) -> tuple[Config | None, tuple[Problem, ...]]:
    """Return the configuration of a text, or its problems.

    Args:
        text: content of the file.
        folder: folder of the file, base of its relative paths; None is the working folder.
        plugins: plugins that it may name; None: the installed ones.

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
    where = with_plugins(None if folder is None else context(folder), Plugins() if plugins is None else plugins)
    config, problems = problems_of(document.data or {}, document, where)
    return None if config is None else _with_file_defaults(config), problems


def problems_of(
    data: Mapping[Any, Any], document: Document, context: Context | None
) -> tuple[Config | None, tuple[Problem, ...]]:
    """Validate the sections of a file, or of a file laid over others.

    Args:
        data: the sections.
        document: the file that problems are located in.
        context: base of its relative paths.
    """
    problems, config, omitted = list(document.repeated), None, 0
    try:
        config = Config.model_validate(data, context=context)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        if any(detail["type"] == CONFLICT for detail in details):
            problems += _located(details[0]["ctx"]["problems"], document)
        else:
            problems += _located(conflicts(document.data), document)
            problems += explained(details[:MAX_PROBLEMS], document)
            omitted = len(details) - MAX_PROBLEMS
    if not problems:
        return config, ()
    problems.sort(key=lambda problem: problem.line or 0)
    if omitted > 0:
        problems.append(Problem("error", "", f"{omitted:,} more problems", "correct these first"))
    return None, tuple(problems)


def _with_file_defaults(config: Config) -> Config:
    """Find index, log and experiment state in the file's folder.

    Only keys that the file leaves out are filled in. Without any file there the defaults are relative to the working
    folder, as they are without a configuration file.
    """
    folder, log, experiment = config.file_folder, config.log, config.trial
    index, state = folder / DEFAULT_INDEX, folder / experiment.state
    database = folder / DEFAULT_URL.removeprefix(SQLITE)
    updates: dict[str, object] = {}
    if "index" not in config.model_fields_set and is_there(index):
        updates["index"] = index
    if "url" not in log.model_fields_set and is_there(database):
        updates["log"] = log.model_copy(update={"url": f"{SQLITE}{database}"})
    if "state" not in experiment.model_fields_set and is_there(state):
        updates["trial"] = experiment.model_copy(update={"state": state})
    return config.model_copy(update=updates) if updates else config


def config_error(path: Path, problems: Sequence[Problem]) -> ConfigError:
    """Return all problems of a file as one error, a line each."""
    first, *rest = problems
    lines = [first.text, *(str(ConfigError(p.text, path=path, line=p.line, key=p.key or None)) for p in rest)]
    return ConfigError("\n".join(lines), path=path, line=first.line, key=first.key or None)


def with_lines(problems: Iterable[Problem], text: str) -> list[Problem]:
    """Add the lines of a file's keys to problems that have none."""
    from semroute.config.yaml_lines import parse

    document = parse(text)
    return [problem if problem.line is not None else _with_line(problem, document) for problem in problems]


def _with_line(problem: Problem, document: Document) -> Problem:
    return replace(problem, line=document.line(path_of(problem.key.split("."))))


def _located(problems: Iterable[Problem], document: Document) -> list[Problem]:
    return [_with_line(problem, document) for problem in problems]


# Translation of pydantic's errors for a person who edits ``semroute.yaml``.

MAX_WORD_LENGTH = 40
"""Longest prefix of a value that is compared with the known words, characters."""
_WORD = re.compile(r"'([^']*)'")
_KEY = "[key]"
"""Pydantic's marker of an invalid key of a mapping."""
_TEXT, _NUMBER, _WHOLE = "must be text", "must be a number", "must be a whole number"
_MAPPING = "must be a mapping of keys to values"
_PAIRS = "write it like {key: value}"
_KINDS = {
    "string_type": (_TEXT, "put it in quotes"),
    "string_unicode": ("must be text that UTF-8 can write", "remove the surrogate"),
    "float_type": (_NUMBER, "write digits without quotes, such as 1.5"),
    "int_type": (_WHOLE, "write digits without quotes, such as 10"),
    "int_from_float": (_WHOLE, "write it without a fraction"),
    "bool_type": ("must be true or false", "write one of the two, without quotes"),
    "finite_number": ("must be a finite number", "write digits, such as 1.5"),
    "int_parsing_size": (_WHOLE, "write a smaller one"),
    "tuple_type": ("must be a list", "write it like [first, second]"),
    "mapping_type": ("must be a mapping of names to values", "write it like {name: value}"),
    "model_type": (_MAPPING, _PAIRS),
    "model_attributes_type": (_MAPPING, _PAIRS),
    "dict_type": (_MAPPING, _PAIRS),
    "invalid_key": (_TEXT, "put the key in quotes"),
    "missing": ("is missing", "add it"),
}
_LIMITS = {
    "greater_than": ("must be greater than {gt:g}", "write a larger number"),
    "greater_than_equal": ("must be at least {ge:g}", "write a larger number"),
    "less_than": ("must be less than {lt:g}", "write a smaller number"),
    "less_than_equal": ("must be at most {le:g}", "write a smaller number"),
    "string_too_short": ("must not be blank", "write something, or remove the key"),
    "string_too_long": ("must have at most {max_length} characters", "shorten it"),
    "too_short": ("must not be empty", "list at least {min_length}, or remove the key"),
    "literal_error": ("must be {expected}", "write one of these"),
}
_NAME = re.compile(r"[a-z_0-9][A-Za-z_0-9]*")
_TYPES = frozenset({"str", "int", "float", "bool", "bytes", "dict", "none", "nullable"})
"""Pydantic's names for branches of a union, which are not keys."""
_SCALARS = {"string_type": "one value", "float_type": "one number", "int_type": "one number", "bool_type": "one value"}
"""Error types of scalars, with the fix for a list or a mapping in their place."""
_UNKNOWN = ("cannot be used", 'see how "semroute init" writes it')


def path_of(location: Sequence[str | int]) -> tuple[str, ...]:
    """Return the path of a location, as documents index their lines."""
    return tuple(str(part) for part in location if part != _KEY)


def explained(details: Sequence[ErrorDetails], document: Document) -> list[Problem]:
    """Translate pydantic's errors to problems, each once.

    The branches of a union concern one value.
    """
    reported = [detail for detail in details if not _follows(detail, document)]
    return list(dict.fromkeys(explain(detail, document) for detail in reported))


def _follows(detail: ErrorDetails, document: Document) -> bool:
    """Return True if a list only counts as empty because its items failed.

    Each item has its own error then.
    """
    return detail["type"] == "too_short" and bool(_resolve_location(detail["loc"], document.data)[1])


def explain(detail: ErrorDetails, document: Document) -> Problem:
    """Translate one error: line, dotted key and fix.

    The message never contains the value, which may be a secret.
    """
    location, value = _resolve_location(detail["loc"], document.data)
    path = _named(detail, location, document)
    if detail["type"] == "extra_forbidden":
        message, fix = _unknown_key(detail["loc"])
    else:
        message, fix = _words(detail, value)
    if detail["type"] == "literal_error":
        fix = _suggest(detail, value) or fix
    return Problem("error", dotted(path), message, fix, document.line(path))


def _resolve_location(location: Sequence[str | int], data: object) -> tuple[tuple[str, ...], object]:
    """Resolve pydantic's location to the path and value in the file.

    A location also names branches of unions and the keys of short forms, which are not in the file.
    """
    path: list[str] = []
    for position, part in enumerate(location):
        is_last = position == len(location) - 1
        if isinstance(data, Mapping):
            matching = next((key for key in data if key == part or _file_spelling(key) == _file_spelling(part)), _KEY)
            if matching != _KEY:
                data, part = data[matching], _file_spelling(matching)
            elif not is_last or part == _KEY or not str(part).isidentifier():
                continue
            else:
                data = None  # a missing key
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(str(part))
    return tuple(path), data


def _file_spelling(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _suggest(detail: ErrorDetails, value: object) -> str:
    """Suggest the known word that was probably meant.

    The message never contains the value, which may be a secret.
    """
    words = _WORD.findall(detail.get("ctx", {}).get("expected", ""))
    return did_you_mean(value.strip().lower()[:MAX_WORD_LENGTH], words) if isinstance(value, str) else ""


def _named(detail: ErrorDetails, path: tuple[str, ...], document: Document) -> tuple[str, ...]:
    """Return the path of an error's key, as the file writes it."""
    location, context = detail["loc"], detail.get("ctx", {})
    if location and location[-1] == _KEY and "hide" in context:
        return path[:-1]  # a value where a variable's name belongs may be the secret itself
    if "key" in context:
        return (*path, context["key"])
    return path


def place_in(error: ValidationError) -> str:
    """Return the dotted location of the first error in a value.

    It is empty for the value itself. For values that are no configuration.
    """
    parts = [str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"]]
    return ".".join(part for part in parts if _NAME.fullmatch(part) and part not in _TYPES)


def said_of(error: ValidationError) -> str:
    """Return the first error of a value as text, for non-configurations.

    It includes the fix where one of our own checks raised the error.
    """
    detail = error.errors(include_input=False, include_url=False)[0]
    message, fix = _words(detail, "")
    text = f"{message}; {fix}" if detail["type"] == BAD_VALUE else message
    return ": ".join(filter(None, (place_in(error), text)))


def _words(detail: ErrorDetails, value: object) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == BAD_VALUE:
        return context["message"], context["fix"]
    if kind in _LIMITS:
        message, fix = _LIMITS[kind]
        return message.format(**context), fix.format(**context)
    message, fix = _KINDS.get(kind, _UNKNOWN)
    if detail["loc"] and detail["loc"][-1] == _KEY:
        return message, fix
    if kind in _SCALARS and isinstance(value, Mapping | list):
        return f"{message}, and not a {'list' if isinstance(value, list) else 'mapping'}", f"write {_SCALARS[kind]}"
    if kind in _SCALARS and value is None:
        return message, f"write {_SCALARS[kind]}, or remove the line"
    return message, fix


def _unknown_key(location: tuple[str | int, ...]) -> tuple[str, str]:
    section, key = _section(location[:-1]), str(location[-1])
    known = sorted(field.alias or name for name, field in section.model_fields.items())
    if section is Config and key in installed("strategies"):
        return "this strategy is not used", "name it under strategies"
    return "unknown key", did_you_mean(key, known) or f"known here: {', '.join(known)}"


def _section(location: Sequence[str | int]) -> type[BaseModel]:
    """Return the model that defines the keys at ``location``."""
    section: type[BaseModel] = Config
    parts = iter(location)
    for part in parts:
        field = _field(section, str(part))
        if field is None:
            continue  # a branch of a union
        annotation = field.annotation
        inner = _model_in(annotation)
        if inner is None:
            break
        if annotation is not inner and not _optional(annotation):
            next(parts, None)  # the name or the position in the mapping or list
        section = inner
    return section


def _field(section: type[BaseModel], key: str) -> FieldInfo | None:
    """Return the field with the file's key ``key``."""
    fields = section.model_fields
    return fields.get(key) or next((field for field in fields.values() if field.alias == key), None)


def _optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner)) is not None), None)


# Overlay of one file's sections on a configuration.


_NOT_LAID_OVER = frozenset({"trial", "policies"})


def overlaid(config: Config, path: Path, *, key: str = "trial.policy") -> Config:
    """Overlay a file's sections on a configuration, categories by key.

    Relative paths in the file begin at its folder; a missing path is looked up next to the configuration, as if the
    sections stood in it. ``key`` is its key in the configuration. The result has no trial and no policies of its own.

    Raises:
        ConfigError: the file cannot be read, or the result is not valid.
    """
    from semroute.config.yaml_lines import YamlError, parse

    try:
        document = parse(read(path, missing="name the policy.yaml of semroute tune-policy", key=key))
    except YamlError as error:
        raise ConfigError(str(error), path=path, line=error.line) from None
    if not isinstance(document.data, dict):
        raise ConfigError("must be a mapping of keys to values", path=path)
    # Sections that are valid already are passed as they are: their paths are resolved.
    merged: dict[str, Any] = {name: getattr(config, name) for name in config.model_fields_set - _NOT_LAID_OVER}
    sections = dict(document.data)
    categories = sections.get("categories")
    if isinstance(categories, dict) and all(isinstance(override, dict) for override in categories.values()):
        existing = {
            name: override.model_dump(by_alias=True, exclude_unset=True) for name, override in config.categories.items()
        }
        sections["categories"] = {
            **existing,
            **{name: {**existing.get(name, {}), **override} for name, override in categories.items()},
        }
    where = with_plugins(context(path.parent, config.file_folder), config.plugins)
    config_overlaid, problems = problems_of({**merged, **sections}, document, where)
    if config_overlaid is None:
        raise config_error(path, problems)
    return config_overlaid


# The commented ``semroute.yaml`` that ``semroute init`` writes.


def template() -> str:
    """Return the text of the template.

    It is a valid configuration whose deployments read ``OPENAI_API_KEY``.
    """
    return files("semroute.config").joinpath("template.yaml").read_text(encoding="utf-8")

"""Pydantic's findings in the words of a person who edits ``semroute.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from semroute.config.problem import Problem, did_you_mean, dotted
from semroute.config.schema import Config
from semroute.config.values import BAD_VALUE
from semroute.config.yaml_lines import Document

LONGEST_WORD = 40
"""Characters of a value that are compared with the known words."""
_WORD = re.compile(r"'([^']*)'")
_KEY = "[key]"
"""Pydantic's mark of a mapping's key that is wrong itself."""
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
"""Pydantic's names of the branches of a choice, which are no keys."""
_SCALARS = {"string_type": "one value", "float_type": "one number", "int_type": "one number", "bool_type": "one value"}
"""Kinds of a single value, with what to write in place of a list or a mapping."""
_UNKNOWN = ("cannot be used", 'see how "semroute init" writes it')


def path_of(location: Sequence[str | int]) -> tuple[str, ...]:
    """Return a dotted key's parts, as a document numbers its lines by them."""
    return tuple(str(part) for part in location if part != _KEY)


def explained(details: Sequence[ErrorDetails], document: Document) -> list[Problem]:
    """Put pydantic's findings into words, each once: the branches of a choice are about one value."""
    told = [detail for detail in details if not _follows(detail, document)]
    return list(dict.fromkeys(explain(detail, document) for detail in told))


def _follows(detail: ErrorDetails, document: Document) -> bool:
    """Tell whether a list is only called empty because its items are refused, which is told of each."""
    return detail["type"] == "too_short" and bool(_written(detail["loc"], document.data)[1])


def explain(detail: ErrorDetails, document: Document) -> Problem:
    """Put one finding into words: line, dotted key and fix; never the value, which may be a secret."""
    written, value = _written(detail["loc"], document.data)
    path = _named(detail, written, document)
    if detail["type"] == "extra_forbidden":
        message, fix = _unknown_key(detail["loc"])
    else:
        message, fix = _words(detail, value)
    if detail["type"] == "literal_error":
        fix = _meant(detail, value) or fix
    return Problem("error", dotted(path), message, fix, document.line(path))


def _written(location: Sequence[str | int], data: object) -> tuple[tuple[str, ...], object]:
    """Follow pydantic's location through the file: the path of what is written there, and its value.

    A location also names the branches of choices and the keys that a short form stands for; the file has neither.
    """
    path: list[str] = []
    for position, part in enumerate(location):
        is_last = position == len(location) - 1
        if isinstance(data, Mapping):
            found = next((key for key in data if key == part or _as_written(key) == _as_written(part)), _KEY)
            if found != _KEY:
                data, part = data[found], _as_written(found)
            elif not is_last or part == _KEY or not str(part).isidentifier():
                continue
            else:
                data = None  # what is missing
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(str(part))
    return tuple(path), data


def _as_written(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _meant(detail: ErrorDetails, value: object) -> str:
    """Suggest the word of a choice that was meant; it is told, and never the value, which may be a secret."""
    known = _WORD.findall(detail.get("ctx", {}).get("expected", ""))
    return did_you_mean(value.strip().lower()[:LONGEST_WORD], known) if isinstance(value, str) else ""


def _named(detail: ErrorDetails, path: tuple[str, ...], document: Document) -> tuple[str, ...]:
    """Return the path of the key that a finding is about, as the file writes it."""
    location, context = detail["loc"], detail.get("ctx", {})
    if location and location[-1] == _KEY and "hide" in context:
        return path[:-1]  # what stands where a variable's name belongs may be the secret itself
    if "key" in context:
        return (*path, context["key"])
    return path


def place_in(error: ValidationError) -> str:
    """Name where in a value of another program its first mistake lies; empty for the value itself."""
    parts = [str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"]]
    return ".".join(part for part in parts if _NAME.fullmatch(part) and part not in _TYPES)


def said_of(error: ValidationError) -> str:
    """Say what is wrong first in a value that no configuration holds; with the fix where a check of ours knows one."""
    detail = error.errors(include_input=False, include_url=False)[0]
    message, fix = _words(detail, "")
    said = f"{message}; {fix}" if detail["type"] == BAD_VALUE else message
    return ": ".join(filter(None, (place_in(error), said)))


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
    known = sorted(field.alias or name for name, field in _section(location[:-1]).model_fields.items())
    return "unknown key", did_you_mean(str(location[-1]), known) or f"known here: {', '.join(known)}"


def _section(location: Sequence[str | int]) -> type[BaseModel]:
    """The model whose keys lie at ``location``."""
    section: type[BaseModel] = Config
    parts = iter(location)
    for part in parts:
        field = _field(section, str(part))
        if field is None:
            continue  # a branch of a choice
        annotation = field.annotation
        inner = _model_in(annotation)
        if inner is None:
            break
        if annotation is not inner and not _optional(annotation):
            next(parts, None)  # the name or the position in the mapping or list
        section = inner
    return section


def _field(section: type[BaseModel], key: str) -> FieldInfo | None:
    """Return the field that the file calls ``key``."""
    fields = section.model_fields
    return fields.get(key) or next((field for field in fields.values() if field.alias == key), None)


def _optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)

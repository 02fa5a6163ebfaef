"""Pydantic's findings in the words of a person who edits ``semroute.yaml``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from semroute.config.problem import Problem, dotted, nearest
from semroute.config.schema import Config
from semroute.config.values import BAD_VALUE
from semroute.config.yaml_lines import Document

LONGEST_WORD = 40
"""Characters of a value that are compared with the known words."""
_WORD = re.compile(r"'([^']*)'")
_KINDS = {
    "string_type": ("must be text", "put it in quotes"),
    "string_unicode": ("must be text that UTF-8 can write", "remove the surrogate"),
    "float_type": ("must be a number", "write it without quotes"),
    "int_type": ("must be a whole number", "write it without quotes"),
    "int_from_float": ("must be a whole number", ""),
    "bool_type": ("must be true or false", "write it without quotes"),
    "finite_number": ("must be a finite number", ""),
    "tuple_type": ("must be a list", "write it like [first, second]"),
    "mapping_type": ("must be a mapping of names to values", "write it like {name: value}"),
    "model_type": ("must be a mapping of keys to values", "write it like {key: value}"),
    "dict_type": ("must be a mapping of keys to values", "write it like {key: value}"),
    "missing": ("is missing", "add it"),
}
_LIMITS = {
    "greater_than": ("must be greater than {gt:g}", ""),
    "greater_than_equal": ("must be at least {ge:g}", ""),
    "less_than": ("must be less than {lt:g}", ""),
    "less_than_equal": ("must be at most {le:g}", ""),
    "string_too_short": ("must not be blank", "write something, or remove the key"),
    "string_too_long": ("must have at most {max_length} characters", ""),
    "too_short": ("must not be empty", "list at least {min_length}, or remove the key"),
    "literal_error": ("must be {expected}", ""),
}


def path_of(location: Sequence[str | int]) -> tuple[str, ...]:
    """Pydantic's location as a path in the file; the marker of a wrong mapping key is not part of it."""
    return tuple(str(part) for part in location if part != "[key]")


def explain(detail: ErrorDetails, document: Document) -> Problem:
    """One finding with its line, its dotted key, and the fix; never with the value, which may be a secret."""
    path = _named(detail, document)
    if detail["type"] == "extra_forbidden":
        message, fix = _unknown_key(detail["loc"])
    else:
        message, fix = _words(detail)
    if detail["type"] == "literal_error":
        fix = _meant(detail, document) or fix
    return Problem("error", dotted(path), message, fix, document.line(path))


def _meant(detail: ErrorDetails, document: Document) -> str:
    """The word of a choice that was meant; it is told, and never the value, which may be a secret."""
    value: Any = document.data
    for part in detail["loc"]:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
    known = _WORD.findall(detail.get("ctx", {}).get("expected", ""))
    meant = nearest(value.strip().lower()[:LONGEST_WORD], known) if isinstance(value, str) else None
    return f'did you mean "{meant}"?' if meant else ""


def _named(detail: ErrorDetails, document: Document) -> tuple[str, ...]:
    """The path of the key that a finding is about, as the file writes it."""
    location, context = detail["loc"], detail.get("ctx", {})
    path = path_of(location)
    if location and location[-1] == "[key]" and "hide" in context:
        return path[:-1]  # what stands where a variable's name belongs may be the secret itself
    if "key" in context:
        return (*path, context["key"])
    if location and isinstance(location[-1], int) and path not in document.lines:
        return path[:-1]  # a single value where a list may stand
    return path


def _words(detail: ErrorDetails) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == BAD_VALUE:
        return context["message"], context["fix"]
    if kind in _LIMITS:
        message, fix = _LIMITS[kind]
        return message.format(**context), fix.format(**context)
    return _KINDS.get(kind, (detail["msg"], ""))


def _unknown_key(location: tuple[str | int, ...]) -> tuple[str, str]:
    known = sorted(field.alias or name for name, field in _section(location[:-1]).model_fields.items())
    meant = nearest(str(location[-1]), known)
    return "unknown key", f'did you mean "{meant}"?' if meant else f"known here: {', '.join(known)}"


def _section(location: Sequence[str | int]) -> type[BaseModel]:
    """The model whose keys lie at ``location``."""
    section: type[BaseModel] = Config
    parts = iter(location)
    for part in parts:
        annotation = _field(section, str(part)).annotation
        inner = _model_in(annotation)
        if inner is None:
            break
        if annotation is not inner and not _optional(annotation):
            next(parts, None)  # the name or the position in the mapping or list
        section = inner
    return section


def _field(section: type[BaseModel], key: str) -> FieldInfo:
    """The field that the file calls ``key``."""
    fields = section.model_fields
    return fields[key] if key in fields else next(field for field in fields.values() if field.alias == key)


def _optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)

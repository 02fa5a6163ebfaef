"""Checks of single values in the conditions of rules."""

from __future__ import annotations

from typing import TypeVar

from semroute.config.problem import did_you_mean
from semroute.config.values import bad_value
from semroute.errors import MissingExtraError
from semroute.texts import LANGUAGES, LinearPattern, PatternError, folded

T = TypeVar("T")


def listed(value: object) -> object:
    """One value as a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


def filled(values: tuple[T, ...]) -> tuple[T, ...]:
    """A list that holds something."""
    if not values:
        raise bad_value("must not be empty", "list something, or remove the key")
    return values


def words(value: str) -> str:
    """A keyword: something is left of it when case and space are gone."""
    if not folded(value):
        raise bad_value("must not be blank", "write a word")
    return value


def pattern(value: str) -> str:
    """A pattern that RE2 takes.

    It goes unchecked where RE2 is not installed: what compiles the rules says then which extra is missing.
    """
    try:
        LinearPattern(value)
    except PatternError as error:
        raise bad_value(error.message, error.fix) from None
    except MissingExtraError:
        pass
    return value


def language(value: str) -> str:
    """An ISO 639-1 code that is told apart."""
    if value not in LANGUAGES:
        fix = did_you_mean(value.lower(), LANGUAGES) or f"known here: {', '.join(sorted(LANGUAGES))}"
        raise bad_value("is not the ISO 639-1 code of a language that is told apart", fix)
    return value


def attachments(value: object) -> str:
    """``true``, ``false`` or ``image``; what they stand for is taken as well."""
    said = {True: "any", False: "none"}.get(value) if isinstance(value, bool) else value
    if said not in ("any", "none", "image"):
        raise bad_value("must be true, false or image", "true: something beside text, whatever it is")
    return str(said)


def said_tools(value: object) -> bool | tuple[str, ...]:
    """``true``, ``false``, or names of tools."""
    if isinstance(value, bool):
        return value
    names = listed(value)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise bad_value("must be true, false or names of tools", "write it like [search, calculator]")
    return tuple(names)

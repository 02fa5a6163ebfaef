"""Checks of single values of ``semroute.yaml``.

No message here repeats the value: a key that was pasted where its variable's name belongs must not reach a log.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from semroute.config.paths import anchored
from semroute.texts.names import is_printable, normalize_name

BAD_VALUE = "semroute_value"
"""Error type of these checks; the error's context holds ``message`` and ``fix``."""

_DATABASE = re.compile(r"(/[0-9]*)?")
_ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


def name(value: str) -> str:
    """A name in Unicode's composed form: printable, not blank, no space around it."""
    value = normalize_name(value)
    if not value.strip():
        raise bad_value("must not be blank", "write a name")
    if value.strip() != value or not is_printable(value):
        raise bad_value("must be printable text without space around it", "remove the space or the control character")
    return value


def is_environment_name(value: str) -> bool:
    """Whether it can be the name of an environment variable, in capitals."""
    return _ENVIRONMENT_NAME.fullmatch(value) is not None


def environment_name(value: str) -> str:
    """The name of an environment variable, in capitals: what is not may be the secret itself."""
    if not is_environment_name(value):
        raise bad_value(
            "must be the name of an environment variable in capitals, such as OPENAI_API_KEY",
            "the key itself does not belong in the file: export it under that name",
            hide="yes",
        )
    return value


def web_address(value: str) -> str:
    """An http(s) address with a host and no credentials, query or fragment; the slash at the end is dropped."""
    example = 'write it like "https://api.openai.com/v1" or "http://localhost:8000/v1"'
    if not value.isprintable() or " " in value:
        raise bad_value("must not hold spaces or control characters", example)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise bad_value("is not a web address", example) from None
    if parts.scheme not in ("http", "https") or not host:
        raise bad_value("must be an http:// or https:// address with a host", example)
    if parts.username is not None or parts.password is not None:
        raise bad_value(
            "must not hold a user name or password", "put the secret in a variable and name it in api_key_env"
        )
    if parts.query or parts.fragment:
        raise bad_value('must end before "?" and "#"', example)
    return value.rstrip("/")


def state_address(value: str) -> str:
    """``memory``, or the address of a Redis without a password in it."""
    if value == "memory":
        return value
    example = 'write "memory", or an address like "redis://localhost:6379/0"'
    if not value.isprintable() or " " in value:
        raise bad_value("must not hold spaces or control characters", example)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise bad_value("is not an address", example) from None
    if parts.scheme not in ("redis", "rediss") or not host:
        raise bad_value("is neither memory nor a redis:// address", example)
    if parts.password is not None or parts.query:  # a query can carry the password as well
        fix = "put it in a variable and name that in state_password_env"
        raise bad_value("must not hold a password, nor a query", fix)
    if parts.fragment or not _DATABASE.fullmatch(parts.path):
        raise bad_value("must end in the number of the database, or before it", example)
    return value


def folder(value: object, info: ValidationInfo) -> Path:
    """A folder's path; ``~`` is the home folder."""
    return _path(value, "folder", info)


def file(value: object, info: ValidationInfo) -> Path:
    """A file's path; ``~`` is the home folder."""
    return _path(value, "file", info)


def _path(value: object, what: str, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path):
        raise bad_value(f"must be the path of a {what}", "write it as text")
    if not str(value).strip() or "\0" in str(value):
        raise bad_value(f"must be the path of a {what}", "or remove the key")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise bad_value('starts with "~", but the home folder is not known', "write the whole path") from None
    return anchored(path, info) if isinstance(value, str) else path  # a Path comes from no file


def optional_folder(value: object, info: ValidationInfo) -> Path | None:
    """A folder's path, or none."""
    return None if value is None else folder(value, info)


def optional_file(value: object, info: ValidationInfo) -> Path | None:
    """A file's path, or none."""
    return None if value is None else file(value, info)


def bad_value(message: str, fix: str, **context: str) -> PydanticCustomError:
    """An error for pydantic to report.

    Args:
        message: what is wrong; without the value.
        fix: what to do about it.
        context: ``key``, where a key inside the value is meant; ``hide``, where a mapping's key may be a secret.
    """
    return PydanticCustomError(BAD_VALUE, "{message}; {fix}", {"message": message, "fix": fix, **context})

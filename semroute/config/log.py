"""The log of outcomes: where it lies, and what is kept. A section of ``semroute.yaml``."""

from __future__ import annotations

import math
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainValidator, ValidationInfo

from semroute.config.paths import anchored_url
from semroute.config.places import Variable
from semroute.config.sections import Section
from semroute.config.values import bad_value

FOREVER = "forever"
DEFAULT_URL = "sqlite:///.semroute/log.db"


def log_address(value: str, info: ValidationInfo) -> str:
    """The address of a database, without a password in it."""
    example = f'write it like "{DEFAULT_URL}" or "postgresql://semroute@db.internal/semroute"'
    if not value.isprintable() or " " in value:
        raise bad_value("must not hold spaces or control characters", example)
    try:
        parts = urlsplit(value)
        has_password = parts.password is not None or "password" in parts.query
    except ValueError:
        raise bad_value("is not an address", example) from None
    if has_password:
        raise bad_value("must not hold a password", "put it in a variable and name that in password_env")
    if parts.scheme not in ("sqlite", "postgresql"):
        raise bad_value("is neither a sqlite:// nor a postgresql:// address", example)
    if parts.scheme == "sqlite" and not parts.path.lstrip("/"):
        raise bad_value("names no file", example)
    try:
        return anchored_url(value, info)
    except RuntimeError:
        raise bad_value('starts with "~", but the home folder is not known', "write the whole path") from None


def _days(value: object) -> object:
    if value == FOREVER:
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:  # type: ignore[operator]
        raise bad_value(f'must be a number of days greater than 0, or "{FOREVER}"', "write it like 90")
    return float(value)  # type: ignore[arg-type]


class Log(Section):
    """Where outcomes are kept, and how much of them.

    Attributes:
        enabled: whether outcomes are logged; None: by the command line, and by the library only where it is asked to.
        url: ``sqlite:///`` and a file, relative to the folder of the file, or ``postgresql://`` for several replicas.
        password_env: environment variable with the password of PostgreSQL.
        text: of queries: in full, as a keyed hash, or not at all.
        answers: of models: in full, or not at all.
        keep_days: age at which an outcome is deleted, or ``forever``.
    """

    enabled: bool | None = None
    url: Annotated[str, AfterValidator(log_address)] = DEFAULT_URL
    password_env: Variable | None = None
    text: Literal["full", "hashed", "none"] = "full"
    answers: Literal["full", "none"] = "none"
    keep_days: Annotated[float | Literal["forever"], PlainValidator(_days)] = 90.0

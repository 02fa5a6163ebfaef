"""The log of outcomes: where it lies, and what is kept. A section of ``semroute.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from semroute.config.places import Variable
from semroute.config.sections import Positive, Section
from semroute.config.values import bad_value

DEFAULT_URL = "sqlite:///.semroute/log.db"


def log_address(value: str) -> str:
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
    return value


class Log(Section):
    """Where outcomes are kept, and how much of them.

    Attributes:
        enabled: whether outcomes are logged; None: by the command line, and by the library only where it is asked to.
        url: ``sqlite:///`` and a file, relative to the working folder, or ``postgresql://`` for several replicas.
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
    keep_days: Positive | Literal["forever"] = 90.0

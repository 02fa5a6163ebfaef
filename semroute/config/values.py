"""Validators, paths and problems that all sections of a config share.

No message of a validator repeats the value: a key that was pasted where its variable's name belongs must not reach a
log.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from semroute.text.names import did_you_mean, is_printable, nearest, normalize_name, printable

# Relative paths of a configuration: their base is the folder of the file that names them.

_FOLDERS = "folders"
SQLITE = "sqlite:///"
_NO_FILE = (":memory:", "file:")

Context: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of a configuration: the folder of its file.

    Configurations are equal whatever their origin.

    Attributes:
        folder: folder of the file; the working folder where there is none.
    """

    folder: Path = field(default=Path(), compare=False)

    @classmethod
    def of(cls, context: Context | None) -> Origin:
        """Return the origin from the context of a validation."""
        folders = (context or {}).get(_FOLDERS) or (Path(),)
        return cls(folders[0])


def context(*folders: Path) -> Context:
    """Return the context of a validation.

    Args:
        folders: folder of the file, and further ones to search for missing paths; none is the working folder.
    """
    return {_FOLDERS: folders}


def anchored(path: Path, info: ValidationInfo) -> Path:
    """Resolve a relative path against the folders of the context.

    The first folder where it exists is taken. A path that exists nowhere is relative to the folder of the file, so that
    a message names where it should have been.
    """
    folders: Sequence[Path] = (info.context or {}).get(_FOLDERS) or ()
    if path.is_absolute() or not folders:
        return path
    return next((candidate for candidate in _candidates(path, folders) if is_there(candidate)), folders[0] / path)


def anchored_url(url: str, info: ValidationInfo) -> str:
    """Resolve the path of a ``sqlite:///`` address.

    It is relative to the folder of the file; ``~`` is the home folder.
    """
    if not url.startswith(SQLITE) or url.startswith(_NO_FILE, len(SQLITE)):
        return url
    path, separator, query = url.removeprefix(SQLITE).partition("?")
    return f"{SQLITE}{anchored(Path(path).expanduser(), info)}{separator}{query}"


def is_there(path: Path) -> bool:
    """Return True if a path exists and may be accessed."""
    return os.path.exists(path)  # noqa: PTH110 (before Python 3.12 the method raises where a folder is closed)


def _candidates(path: Path, folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield folder / path
        yield from _from_parent(path, folder)


def _from_parent(path: Path, folder: Path) -> Iterator[Path]:
    """Yield a path that names its file's own folder, seen from the parent.

    ``policy/policy.yaml`` of ``semroute tune-policy --out policy`` names ``policy/…``, for it can be put into a
    ``semroute.yaml`` as it is.
    """
    folder_parts, parts = folder.absolute().parts, [part for part in path.parts if part != ".."]
    for count in range(min(len(folder_parts), len(parts)), 0, -1):
        if folder_parts[-count:] == tuple(parts[:count]):
            yield folder.joinpath(*parts[count:])


BAD_VALUE = "semroute_value"
"""Error type of these validators; the error's context holds ``message`` and ``fix``."""

_DATABASE = re.compile(r"(/[0-9]*)?")
_ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


def name(value: str) -> str:
    """Normalise a name to Unicode's composed form and check it.

    It must be printable, not blank, and without space around it.
    """
    value = normalize_name(value)
    if not value.strip():
        raise bad_value("must not be blank", "write a name")
    if value.strip() != value or not is_printable(value):
        raise bad_value("must be printable text without space around it", "remove the space or the control character")
    return value


def is_environment_name(value: str) -> bool:
    """Return True if a value is an environment variable's name in capitals."""
    return _ENVIRONMENT_NAME.fullmatch(value) is not None


def environment_name(value: str) -> str:
    """Check the name of an environment variable, in capitals.

    Any other value may be the secret itself.
    """
    if not is_environment_name(value):
        raise bad_value(
            "must be the name of an environment variable in capitals, such as OPENAI_API_KEY",
            "the key itself does not belong in the file: export it under that name",
            hide="yes",
        )
    return value


def _split_address(value: str, what: str, example: str) -> SplitResult:
    """Split an address whose host and port can be read; refuse what is none."""
    if not value.isprintable() or " " in value:
        raise bad_value("must not hold spaces or control characters", example)
    try:
        parts = urlsplit(value)
        _ = parts.hostname, parts.port  # parsed only when they are read
    except ValueError:
        raise bad_value(f"is not {what}", example) from None
    return parts


def web_address(value: str) -> str:
    """Check an http(s) address and drop its trailing slash.

    It must have a host and no credentials, query or fragment.
    """
    example = 'write it like "https://api.openai.com/v1" or "http://localhost:8000/v1"'
    parts = _split_address(value, "a web address", example)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise bad_value("must be an http:// or https:// address with a host", example)
    if parts.username is not None or parts.password is not None:
        raise bad_value(
            "must not hold a user name or password", "put the secret in a variable and name it in api_key_env"
        )
    if parts.query or parts.fragment:
        raise bad_value('must end before "?" and "#"', example)
    return value.rstrip("/")


def state_address(value: str) -> str:
    """Check a state address: ``memory``, or a Redis without a password in it."""
    if value == "memory":
        return value
    example = 'write "memory", or an address like "redis://localhost:6379/0"'
    parts = _split_address(value, "an address", example)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise bad_value("is neither memory nor a redis:// address", example)
    if parts.password is not None or parts.query:  # a query can carry the password as well
        fix = "put it in a variable and name that in state_password_env"
        raise bad_value("must not hold a password, nor a query", fix)
    if parts.fragment or not _DATABASE.fullmatch(parts.path):
        raise bad_value("must end in the number of the database, or before it", example)
    return value


def folder(value: object, info: ValidationInfo) -> Path:
    """Resolve a folder's path; ``~`` is the home folder."""
    return _path(value, "folder", info)


def file(value: object, info: ValidationInfo) -> Path:
    """Resolve a file's path; ``~`` is the home folder."""
    return _path(value, "file", info)


def _path(value: object, kind: str, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path):
        raise bad_value(f"must be the path of a {kind}", "write it as text")
    if not str(value).strip() or "\0" in str(value):
        raise bad_value(f"must be the path of a {kind}", "or remove the key")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise bad_value('starts with "~", but the home folder is not known', "write the whole path") from None
    return anchored(path, info) if isinstance(value, str) else path  # a Path comes from no file


def optional_folder(value: object, info: ValidationInfo) -> Path | None:
    """Resolve a folder's path, or None."""
    return None if value is None else folder(value, info)


def optional_file(value: object, info: ValidationInfo) -> Path | None:
    """Resolve a file's path, or None."""
    return None if value is None else file(value, info)


def bad_value(message: str, fix: str, **context: str) -> PydanticCustomError:
    """Return a validation error for pydantic to report.

    Args:
        message: what is wrong; without the value.
        fix: what to do about it.
        context: ``key`` where a key inside the value is meant; ``hide`` where a mapping's key may be a secret.
    """
    return PydanticCustomError(BAD_VALUE, "{message}; {fix}", {"message": message, "fix": fix, **context})


# Problems of a configuration: a plain record for loader, check and command line.

__all__ = ["Problem", "Severity", "did_you_mean", "dotted", "nearest"]

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem of a configuration.

    Attributes:
        severity: "error" stops queries from being answered; "warning" is most likely a mistake.
        key: dotted path of the key, such as ``deployments.0.base_url``; empty when the whole file is meant.
        message: what is wrong.
        fix: what to do about it; empty when the message says it all.
        line: 1-based line in the file, where one is known.
    """

    severity: Severity
    key: str
    message: str
    fix: str = ""
    line: int | None = None

    @property
    def text(self) -> str:
        """Message and fix as one sentence."""
        return f"{self.message}; {self.fix}" if self.fix else self.message


def dotted(path: Iterable[str | int]) -> str:
    """Return a path of keys and positions as one printable line.

    Parts that do not print plainly are quoted.
    """
    return ".".join(printable(str(part)) for part in path)


# Base of every section of ``semroute.yaml``.

Name: TypeAlias = Annotated[str, AfterValidator(name)]
Names: TypeAlias = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(allow_inf_nan=False, gt=0)]
Share: TypeAlias = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1)]
Count: TypeAlias = Annotated[int, Field(gt=0)]

_building = threading.RLock()


class Section(BaseModel):
    """Section of the file.

    A key that is written without a value (``models:``) counts as left out.
    """

    # Schemas are built when a configuration is first read: most programs that only route have none.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    @classmethod
    def default(cls) -> Self:
        """Construct the section with its defaults.

        Nothing is validated, so that no schema is built.
        """
        return cls.model_construct()

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Build the schema, as pydantic does at first use; one thread at a time.

        Before 2.14 pydantic lets several threads build at once, of which one may see a half-built schema of another:
        https://github.com/pydantic/pydantic/issues/13419
        """
        # One more frame lies between it and whoever asks.
        options["_parent_namespace_depth"] = options.get("_parent_namespace_depth", 2) + 1
        with _building:
            return super().model_rebuild(**options)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, Mapping):
            return data
        names = cls.model_fields.keys() | {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in data.items() if value is not None or key not in names}

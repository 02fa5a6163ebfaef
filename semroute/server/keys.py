"""Virtual keys: who may call the gateway, what for, and how much.

A key is random, so a plain digest of it is safe to store: there is nothing to guess. It is compared in constant time.
"""

from __future__ import annotations

import hmac
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Annotated, Literal, TypeAlias, get_args

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from semroute.errors import InputError
from semroute.storage import atomic_write
from semroute.text.names import did_you_mean
from semroute.types.gates import Endpoint

DEFAULT_FILE = Path(".semroute/keys.json")
PREFIX = "sr"
SECRET_BYTES = 32
_KEY = re.compile(rf"{PREFIX}-([0-9a-f]{{8}})-([A-Za-z0-9_-]{{43}})")

Right: TypeAlias = Literal["call", "feedback", "metrics", "keys", "trial", "reload", "export"]
RIGHTS: tuple[Right, ...] = get_args(Right)
"""Rights of a key: to call models, to judge its own answers, to read the metrics, to list and disable keys, to set the
share of a trial, to reload, to export the log."""
USUAL_RIGHTS: tuple[Right, ...] = ("call", "feedback", "metrics")
"""Rights of a key that names none, and of those from before there were any."""

Count = Annotated[int, Field(gt=0)]


class VirtualKey(BaseModel):
    """Key of one caller, without its secret.

    Attributes:
        id: public part of the key, eight hexadecimal digits.
        name: name for people.
        digest: SHA-256 of the secret, hexadecimal.
        created: when it was made, UTC.
        models: names that it may ask for (models, groups, ``auto``); empty allows all.
        rpm: requests a minute; None is no limit.
        tpm: tokens a minute, input and output together.
        budget_usd: limit of its spending in a calendar month (UTC).
        metadata: metadata of its requests, for rules and the log; a caller cannot override it.
        rights: what it may do, of :data:`RIGHTS`.
        disabled: whether it is refused until it is enabled again.
        revoked: whether it is refused for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
    created: datetime
    models: tuple[str, ...] = ()
    rpm: Count | None = None
    tpm: Count | None = None
    budget_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    metadata: Mapping[str, str] = {}
    rights: tuple[Right, ...] = USUAL_RIGHTS
    disabled: bool = False
    revoked: bool = False

    @property
    def state(self) -> Literal["active", "disabled", "revoked"]:
        """Return whether it is taken."""
        return "revoked" if self.revoked else "disabled" if self.disabled else "active"

    @property
    def endpoint(self) -> Endpoint:
        """Return what admission control counts this key's calls by."""
        name = f"key {self.id}"
        return Endpoint(name, credential=name, rpm=self.rpm, tpm=self.tpm, budget_usd=self.budget_usd)

    def allows(self, model: str) -> bool:
        """Return True if the key may ask for a model name."""
        return not self.models or model in self.models

    def to_dict(self) -> dict[str, object]:
        """Return the key as JSON-ready values, without the digest of its secret."""
        return {**self.model_dump(mode="json", exclude={"digest", "disabled", "revoked"}), "state": self.state}


class KeyRing:
    """Virtual keys of a file, read again when it changes; thread-safe.

    Args:
        path: the file; without it there are no keys, and none is wanted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: Mapping[str, VirtualKey] = {}

    @property
    def is_empty(self) -> bool:
        """True if there is no key, revoked ones included.

        Then nobody is asked for one.
        """
        return not self._current()

    def find(self, secret: str | None) -> VirtualKey | None:
        """Return the key of a caller; None if it is unknown, disabled or revoked."""
        keys, match = self._current(), _KEY.fullmatch(secret or "")
        key = keys.get(match[1]) if match else None
        # An unknown id costs as much time as a wrong secret.
        expected = key.digest if key is not None else "0" * 64
        is_right = hmac.compare_digest(_digest(match[2] if match else ""), expected)
        return key if key is not None and is_right and key.state == "active" else None

    def _current(self) -> Mapping[str, VirtualKey]:
        stamp = _stamp(self.path)
        with self._lock:
            if stamp != self._stamp:
                # A damaged file refuses everybody rather than letting them in.
                self._keys = {key.id: key for key in read_keys(self.path)}
                self._stamp = stamp
            return self._keys


def create_key(
    path: Path,
    name: str,
    *,
    models: Sequence[str] = (),
    rpm: int | None = None,
    tpm: int | None = None,
    budget_usd: float | None = None,
    metadata: Mapping[str, str] | None = None,
    rights: Sequence[Right] = USUAL_RIGHTS,
) -> tuple[VirtualKey, str]:
    """Make a key and add it to the file.

    Returns:
        The key, and the whole key as the caller sends it, which is stored nowhere.

    Raises:
        InputError: a value cannot be used, the name is taken, or the file cannot be read.
    """
    secret = token_urlsafe(SECRET_BYTES)
    with _changing(path) as keys:
        if any(key.name == name and not key.revoked for key in keys):
            raise InputError(f"there is a key {name!r} already; revoke it first, or choose another name")
        try:
            key = VirtualKey(
                id=token_hex(4),
                name=name,
                digest=_digest(secret),
                created=datetime.now(UTC),
                models=tuple(models),
                rpm=rpm,
                tpm=tpm,
                budget_usd=budget_usd,
                metadata=metadata or {},
                rights=tuple(dict.fromkeys(rights)),
            )
        except ValidationError as error:
            raise InputError(_problem(error)) from None
        keys.append(key)
    return key, f"{PREFIX}-{key.id}-{secret}"


def revoke_key(path: Path, name: str) -> VirtualKey:
    """Refuse a key from now on; its record stays, for the report.

    Args:
        path: the file.
        name: its name or id.

    Raises:
        InputError: there is no such key.
    """
    return _changed(path, name, revoked=True)


def disable_key(path: Path, name: str, *, disabled: bool = True) -> VirtualKey:
    """Refuse a key until it is enabled again, or enable it.

    Arguments and errors are those of :func:`revoke_key`.
    """
    return _changed(path, name, disabled=disabled)


def _changed(path: Path, name: str, **values: bool) -> VirtualKey:
    with _changing(path) as keys:
        for place, key in enumerate(keys):
            if name in (key.name, key.id) and not key.revoked:
                keys[place] = changed = key.model_copy(update=values)
                return changed
        known = [key.name for key in keys if not key.revoked]
        raise InputError(f"there is no key {name!r}{did_you_mean(name, known)}; semroute keys list shows them")


def read_keys(path: Path) -> list[VirtualKey]:
    """Return the keys of a file; none if there is no file.

    Raises:
        InputError: the file cannot be read as keys; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None
    try:
        return [VirtualKey.model_validate(row) for row in json.loads(text)["keys"]]
    except ValidationError as error:
        raise InputError(f"{path}: {_problem(error)}") from None
    except (ValueError, TypeError, KeyError):
        raise InputError(f'{path}: it is not the keys of semroute ({{"keys": [...]}})') from None


@contextmanager
def _changing(path: Path) -> Iterator[list[VirtualKey]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        keys = read_keys(path)
        yield keys
        rows = {"keys": [key.model_dump(mode="json") for key in keys]}
        with atomic_write(path) as part:
            part.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
            part.chmod(0o600)


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _problem(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"

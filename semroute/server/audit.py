"""Audit log of the gateway's rights: who used one, or was refused.

Lines are added and never changed.

Each line holds the SHA-256 of the line before it, so that a line that was changed, removed or put in between is found.
Lines that were cut off at the end leave no trace in the file: compare the digest of the last line with one that was
noted elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from semroute.errors import InputError, StateError
from semroute.server.keys import VirtualKey

FIRST = "0" * 64
"""Digest that stands in the first line."""
TAIL_BYTES = 64 * 1024
"""Largest line, bytes: the end of the file that is read for the last one."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Use of a right.

    Attributes:
        action: what was to be done, such as ``keys.disable``.
        who: name and id of the key; or the user of this machine.
        source: address of the client; or ``command line``.
        allowed: whether the right was there.
        details: what it was done to; never a secret.
        request_id: of the request; None at the command line.
        failed: why it could not be done, though allowed; None otherwise.
    """

    action: str
    who: Mapping[str, str]
    source: str
    allowed: bool = True
    details: Mapping[str, object] | None = None
    request_id: str | None = None
    failed: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values, without those that are not known."""
        values = {
            "action": self.action,
            "who": dict(self.who),
            "from": self.source,
            "allowed": self.allowed,
            "details": None if self.details is None else dict(self.details),
            "request_id": self.request_id,
            "failed": self.failed,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """Result of verifying an audit log.

    Attributes:
        path: the file.
        lines: lines whose chain holds, from the beginning.
        head: digest of the last of them.
        problem: what is wrong with the next one; None where all hold.
    """

    path: Path
    lines: int
    head: str
    problem: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {"file": str(self.path), "lines": self.lines, "head": self.head, "problem": self.problem}


class AuditLog:
    """Audit log in a file of JSON lines, shared by several processes.

    Args:
        path: the file; made with the first line, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_keys(cls, keys: Path) -> AuditLog:
        """Return the audit log that lies beside a file of keys."""
        return cls(keys.with_name(f"{keys.stem}.audit.jsonl"))

    def append(self, event: AuditEvent) -> None:
        """Add a line, which is on the disk when this returns.

        Raises:
            StateError: it cannot be written; then what it is about must not be done either.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock")):
                self._append(event)
        except OSError as error:
            raise StateError(f"{self.path}: the audit log cannot be written ({error.strerror or error})") from None

    def _append(self, event: AuditEvent) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            last = _last_line(file)
            # A line that a crash cut off is closed and stays: it is evidence, and the chain goes on behind it.
            start = b"" if last.endswith(b"\n") or not last else b"\n"
            before = sha256(last.rstrip(b"\n")).hexdigest() if last else FIRST
            values = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **event.to_dict(), "before": before}
            line = start + json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
            if len(line) > TAIL_BYTES:
                raise OSError("the line is too long")
            while line:
                line = line[os.write(file, line) :]
            os.fsync(file)
        finally:
            os.close(file)

    def verify(self) -> AuditCheck:
        """Check the chain from the first line to the last.

        Raises:
            InputError: there is no such file, or it cannot be read.
        """
        before, count = FIRST, 0
        for number, (line, event) in enumerate(self._lines(), 1):
            if event is None or event.get("before") != before:
                what = "is no line of an audit log" if event is None else "does not follow the line before it"
                return AuditCheck(self.path, count, before, f"line {number} {what}: it, or the one before, was changed")
            before, count = sha256(line).hexdigest(), number
        return AuditCheck(self.path, count, before)

    def events(self) -> Iterator[Mapping[str, object]]:
        """Yield the lines that can be read, oldest first.

        Raises:
            InputError: there is no such file, or it cannot be read.
        """
        yield from (event for _, event in self._lines() if event is not None)

    def _lines(self) -> Iterator[tuple[bytes, Mapping[str, object] | None]]:
        try:
            with self.path.open("rb") as file:
                for line in file:
                    yield line.rstrip(b"\n"), _parsed(line)
        except FileNotFoundError:
            raise InputError(f"{self.path}: there is no audit log; it begins with the first use of a right") from None
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror or error})") from None


def caller_of(key: VirtualKey | None) -> dict[str, str]:
    """Return a caller as an event names it."""
    return {} if key is None else {"key": key.name, "id": key.id}


def _last_line(file: int) -> bytes:
    size = os.lseek(file, 0, os.SEEK_END)
    os.lseek(file, max(0, size - TAIL_BYTES), os.SEEK_SET)
    tail = b""
    while part := os.read(file, TAIL_BYTES):
        tail += part
    return tail.splitlines(keepends=True)[-1] if tail else b""


def _parsed(line: bytes) -> Mapping[str, object] | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None

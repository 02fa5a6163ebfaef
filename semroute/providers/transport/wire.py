"""JSON as it goes over the wire, both ways."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from semroute import forks
from semroute.errors import RequestError
from semroute.providers.target import CallTarget

T = TypeVar("T")

MAX_VALUES = 2_000_000
"""Values, about, in JSON that is read: to parse it is one step of the interpreter, which no other thread can interrupt,
of 0.1 to 0.3 microseconds for each value. An answer with the log probabilities of 100,000 tokens has half as many."""

MAX_DEPTH = 200
"""Levels of nesting in JSON that is read: far below where Python gives up, so that it can be written again anywhere."""

OFF_LOOP = 2**20
"""Bytes of JSON from which it is read in a thread of its own."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE_BYTES = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def encode(body: Mapping[str, object], target: CallTarget) -> bytes:
    """``body`` as UTF-8 JSON; a lone surrogate, which UTF-8 cannot write, becomes U+FFFD."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{target.deployment.name}: the request cannot be written as JSON: {error}"
        raise RequestError(message, deployment=target.deployment.name) from None
    return _without_lone_surrogates(text).encode()


def read_json(text: str | bytes) -> object:
    """What JSON says; a lone surrogate in it, which no text may hold, becomes U+FFFD.

    Raises:
        ValueError: it is not JSON, not UTF-8, or has too many values or levels.
    """
    opened, others = _structure(text)
    if opened + others > MAX_VALUES:
        raise ValueError("JSON of too many values")
    try:
        value: object = json.loads(text)
        if opened > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
            raise ValueError("JSON that is nested too deeply")
        # Only an escape, or bytes that are no UTF-8, can smuggle one in; for most texts the look for them is all.
        again = json.dumps(value, ensure_ascii=False) if _has_surrogate(text) else ""
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    return value if again.isascii() else json.loads(_without_lone_surrogates(again))


class _BodyReader:
    """The thread that reads large JSON.

    The interpreter's lock lets the event loop run between the steps of it and not within one; :data:`MAX_VALUES` bounds
    those. It is not the loop's default executor, in which look-ups of names may hang.
    """

    def __init__(self) -> None:
        self._lock = forks.lock()
        self._pool: ThreadPoolExecutor | None = None
        forks.in_child(self, _BodyReader._after_fork)

    def pool(self) -> ThreadPoolExecutor:
        """Return the pool of one thread."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="semroute-json")
            return self._pool

    def _after_fork(self) -> None:
        forks.leave_behind(self._pool)
        self._pool = None


_reader = _BodyReader()


async def off_loop(read: Callable[[], T], size: int) -> T:
    """Run ``read``, which reads so many bytes of JSON, without holding up the event loop for long."""
    if size < OFF_LOOP:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_reader.pool(), read)


def _has_surrogate(text: str | bytes) -> bool:
    # The plain look for one byte is a hundred times as fast as the pattern.
    if isinstance(text, bytes):
        return (b"\\u" in text or b"\xed" in text) and _SURROGATE_BYTES.search(text) is not None
    return "\\u" in text and _SURROGATE.search(text) is not None


def _structure(text: str | bytes) -> tuple[int, int]:
    """Count what opens a list or an object, and what separates values; those within texts are counted too."""
    if isinstance(text, bytes):
        return text.count(b"[") + text.count(b"{"), text.count(b",")
    return text.count("[") + text.count("{"), text.count(",")


def _is_deeper(value: object, most: int) -> bool:
    """Tell whether lists and objects are nested more than ``most`` levels deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _without_lone_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _plain(value: object) -> object:
    """Mappings that are not dicts are written like dicts."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")

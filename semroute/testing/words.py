"""Replies by name, for the prompt and the control endpoint: ``429``, ``hang:2``, ``stall:3``, ``split:1-2-7``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from semroute.testing import faults, replies
from semroute.testing.replies import Reply

_Maker = Callable[..., Reply]


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split("-")]


# Name: the reply, and what turns the text after a colon into its argument.
NAMED: Mapping[str, tuple[_Maker, Callable[[str], object] | None]] = {
    "ok": (Reply, None),
    "answer": (replies.answer, str),
    "number": (replies.number, int),
    "refusal": (replies.refusal, None),
    "quota": (replies.quota_exhausted, None),
    "context-length": (replies.context_length, None),
    "content-filter": (replies.content_filter, None),
    "error": (replies.error_in_200, None),
    "empty": (replies.empty_choices, None),
    "no-usage": (replies.no_usage, None),
    "malformed": (replies.malformed, None),
    "hang": (replies.hang, float),
    "stall": (faults.stall_after, int),
    "stall-at-end": (faults.stall_at_end, None),
    "reset-at-end": (faults.reset_at_end, None),
    "reset": (faults.reset_after, int),
    "truncated": (faults.truncated, int),
    "no-end-marker": (faults.no_end_marker, None),
    "error-event": (faults.error_event, int),
    "malformed-event": (faults.malformed_event, int),
    "split": (faults.split_sse, _sizes),
    "drip": (faults.drip, float),
}
_WITHOUT_ARGUMENT: Mapping[str, Reply] = {"stall": faults.stall_after(1), "reset": faults.reset_after(1)}


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name, NAMED, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def script(text: str) -> tuple[Reply, ...]:
    """The replies of a list such as ``429,hang:2,ok``.

    Raises:
        ValueError: a word is no reply.
    """
    return tuple(reply(word.strip()) for word in text.split(","))


def reply(word: str) -> Reply:
    """The reply of one word: a name of :data:`NAMED`, or an error status; ``429:2`` has a ``Retry-After`` of 2 s.

    Raises:
        ValueError: it is neither.
    """
    name, colon, argument = word.partition(":")
    if name.isascii() and name.isdigit() and 400 <= int(name) <= 599:
        return _failure(int(name), argument)
    if name not in NAMED:
        raise ValueError(f'"{word}" is neither an error status nor one of {", ".join(NAMED)}{_meant(name)}')
    make, parse = NAMED[name]
    if not colon:
        return _WITHOUT_ARGUMENT.get(name) or make()
    if parse is None:
        raise ValueError(f'"{name}" takes nothing after the colon')
    try:
        return make(parse(argument))
    except ValueError as error:
        raise ValueError(f'"{word}": {error}') from None


def _failure(status: int, argument: str) -> Reply:
    """``429`` hints at 1 s, ``429:none`` at nothing, ``429:reset=2`` in the vendor's own way."""
    if argument == "none":
        return replies.fail(status)
    if argument.startswith("reset="):
        return replies.fail(status, reset_s=float(argument.removeprefix("reset=")))
    if argument:
        return replies.fail(status, retry_after=float(argument))
    return replies.fail(status, retry_after=1 if status == 429 else None)

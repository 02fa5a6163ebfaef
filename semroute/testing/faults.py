"""How an answer breaks on its way. Each takes the reply to break: the honest one, unless given.

``after`` counts pieces of text (words). An answer that is not streamed has no pieces: half its bytes are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from semroute.testing.replies import Delivery, Reply, Then


def stall_after(pieces: int, reply: Reply | None = None, *, keepalive_s: float = 0.0) -> Reply:
    """So many pieces, and then nothing more on an open connection, or only signs of life at an interval, seconds."""
    broken = _broken(reply, "stall", pieces)
    return replace(broken, delivery=replace(broken.delivery, keepalive_s=keepalive_s))


def reset_after(pieces: int, reply: Reply | None = None) -> Reply:
    """So many pieces, and then a connection reset (RST)."""
    return _broken(reply, "reset", pieces)


def stall_at_end(reply: Reply | None = None) -> Reply:
    """The whole answer and the reason why it ended, and then nothing more on an open connection."""
    return _at_end(_broken(reply, "stall", None))


def reset_at_end(reply: Reply | None = None) -> Reply:
    """The whole answer and the reason why it ended, and then a connection reset (RST)."""
    return _at_end(_broken(reply, "reset", None))


def truncated(after: int | None = None, reply: Reply | None = None) -> Reply:
    """An orderly end of the stream without a finish reason or an end marker, after so many pieces or all.

    An answer that is not streamed ends before its content-length.
    """
    return _broken(reply, "close", after)


def no_end_marker(reply: Reply | None = None) -> Reply:
    """A whole stream, with finish reason and usage, but without ``[DONE]`` or ``message_stop``."""
    return _broken(reply, "unmarked", None)


def error_event(after: int = 0, reply: Reply | None = None) -> Reply:
    """An error in the middle of a 200: as an event after so many pieces; in place of an answer if not streamed."""
    return _broken(reply, "error", after)


def malformed_event(after: int = 0, reply: Reply | None = None) -> Reply:
    """An event that is no JSON after so many pieces; the rest follows. Not streamed: a body that is no JSON."""
    return _broken(reply, "malformed", after)


def split_sse(sizes: Sequence[int] = (1, 2, 3, 5, 7), reply: Reply | None = None) -> Reply:
    """The answer's bytes in parts of these sizes, over and over: in the middle of lines, and of characters."""
    if not sizes or min(sizes) < 1:
        raise ValueError("sizes must be whole numbers above 0")
    reply = reply or Reply()
    return replace(reply, delivery=replace(reply.delivery, sizes=tuple(sizes)))


def drip(interval_s: float = 0.05, reply: Reply | None = None) -> Reply:
    """One event in every interval, seconds; an answer that is not streamed comes in eight parts."""
    reply = reply or Reply()
    return replace(reply, delivery=replace(reply.delivery, interval_s=interval_s))


def _broken(reply: Reply | None, then: Then, after: int | None) -> Reply:
    reply = reply or Reply()
    delivery: Delivery = replace(reply.delivery, then=then, after=after)
    return replace(reply, delivery=delivery)


def _at_end(reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, at_end=True))

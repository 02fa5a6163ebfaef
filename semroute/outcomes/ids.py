"""Names of outcomes: version 7 UUIDs, which sort by time."""

from __future__ import annotations

import os

from semroute import forks

_lock = forks.lock()
_last = 0


def new_id(now: float) -> str:
    """A version 7 UUID in hex, without dashes; each is greater than the one before in this process.

    48 bits of milliseconds, the version, 12 bits that count within the process, the variant, 62 random bits (RFC 9562,
    5.7 and 6.2, method 1: a counter in ``rand_a``, which carries into the time where it is full).

    Args:
        now: seconds since the epoch.
    """
    global _last
    with _lock:
        _last = max(_last + 1, int(now * 1000) << 12)
        stamp, count = divmod(_last, 1 << 12)
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return f"{stamp << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | random:032x}"

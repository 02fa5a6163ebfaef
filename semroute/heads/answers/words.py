"""Words and pairs of words, hashed to buckets.

Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009: no vocabulary has to be
kept, and a word that was never seen does no harm.
"""

from __future__ import annotations

import re
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 4096
SEEN = 6000
"""Characters at each end of a text whose words are taken."""

_WORD = re.compile(r"[^\W\d_]+|[^\w\s]|\d")


def hashed(text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Buckets, ascending, and the weight of each: counts of words and pairs, scaled to length 1.

    CRC-32 is the same on every machine, which Python's own hash is not.
    """
    seen = text if len(text) <= 2 * SEEN else f"{text[:SEEN]} {text[-SEEN:]}"
    words = [word.encode("utf-8", "replace") for word in _WORD.findall(seen.casefold())]
    units = words + [first + b" " + second for first, second in pairwise(words)]
    if not units:
        return np.zeros(0, np.int64), np.zeros(0)
    buckets, counts = np.unique([crc32(unit) % BUCKETS for unit in units], return_counts=True)
    weights = counts.astype(np.float64)
    return buckets.astype(np.int64), weights / float(np.linalg.norm(weights))

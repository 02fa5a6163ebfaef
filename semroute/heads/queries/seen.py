"""The queries that a classifier was trained on, as hashes: enough to tell them again, and 8 bytes each.

A hash keeps nobody from trying whether a query that he knows was among them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from semroute.texts.same import normalize

Hashes = NDArray[np.uint64]


def hashes(queries: Iterable[str]) -> Hashes:
    """``(n,)`` uint64: the first 64 bits of the SHA-256 of each normalised text.

    Of a million texts that were not seen, among 50,000 that were, 3e-9 are expected to be taken for seen.
    """
    digests = (hashlib.sha256(normalize(query).encode("utf-8", "surrogatepass")).digest()[:8] for query in queries)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def seen_queries(queries: Iterable[str]) -> Hashes:
    """The hashes of training queries, each once and in order, so that nothing is told of the rows."""
    return np.unique(hashes(queries))

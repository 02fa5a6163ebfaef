"""Texts as numbers that are the same on every machine: what tells a list of them from others, and a place for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_of(texts: Iterable[str], *more: bytes) -> str:
    """SHA-256, in hex, of texts in their order, and of bytes after them; no two lists run together."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    for raw in more:
        digest.update(raw)
    return digest.hexdigest()


def hash_fraction(text: str) -> float:
    """Where a text stands from 0 to below 1: even over texts, those that differ by a word apart from one another.

    Not by a checksum: pairs of texts that differ in the same words have ones that differ in the same bits, and what is
    drawn by them would be drawn alike.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    # 53 bits are what a float holds: with more of them it may be rounded to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53

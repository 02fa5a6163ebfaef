"""LRU cache of vectors in front of an encoder."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar

import numpy as np

from semroute import forks
from semroute.types import Encoder, Matrix

LONG = 512
"""Characters of a text beyond which its cache key is a hash, so that the cache stays small."""
CACHE_OWNER: ContextVar[str] = ContextVar("semroute_cache_owner", default="")
"""Owner of the vectors that are cached in this context, at most 64 bytes. A server sets it for each of its callers: a
shared vector would show by the time that it saves that another caller has sent the same text."""


class CachedEncoder:
    """Encoder with an LRU cache of the last ``size`` different texts.

    Each :data:`CACHE_OWNER` has its own.

    Safe to share between threads; a caller owns the array that it gets, so changing it cannot corrupt the cache.

    Args:
        encoder: the wrapped encoder.
        size: texts to cache, at least 1.
    """

    def __init__(self, encoder: Encoder, size: int = 4096) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        self.encoder = encoder
        self.size = size
        self._recent: OrderedDict[str | bytes, Matrix] = OrderedDict()
        self._lock = forks.lock()

    def __repr__(self) -> str:
        return f"CachedEncoder({self.encoder!r}, size={self.size})"

    @property
    def name(self) -> str:
        """Name of the wrapped encoder."""
        return self.encoder.name

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the wrapped encoder."""
        return self.encoder.fingerprint

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self.encoder.dimensions

    @property
    def waits(self) -> bool:
        """False if the wrapped encoder says that it only computes.

        Others may wait for a server.
        """
        return bool(getattr(self.encoder, "waits", True))

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``, running the encoder only on texts not in the cache.

        Returns ``(len(texts), dimensions)`` float32, unit rows. Each missing text is encoded once.

        Raises:
            EncoderError: the wrapped encoder failed; nothing of the batch is cached then.
            TypeError: ``texts`` is one string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not one string")
        keys = [_key(text) for text in texts]
        cached = self._look_up(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in cached}
        if missing:
            # Outside the lock: a slow batch must not block callers whose vectors are cached.
            encoded = self.encoder.encode(list(missing.values()))
            cached.update(zip(missing, encoded, strict=True))
            self._remember({key: cached[key].copy() for key in missing})
        vectors = np.empty((len(keys), self.dimensions), dtype=np.float32)
        for row, key in enumerate(keys):
            vectors[row] = cached[key]
        return vectors

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text if the encoder knows none of its words.

        False where the wrapped encoder cannot determine it.
        """
        unknown = getattr(self.encoder, "unknown", None)
        return [False] * len(texts) if unknown is None else list(unknown(texts))

    def unknown_language(self, text: str) -> str | None:
        """Return the language of a text if the encoder does not know it.

        None where the wrapped encoder cannot determine it.
        """
        language = getattr(self.encoder, "unknown_language", None)
        return None if language is None else language(text)

    def _look_up(self, keys: Sequence[str | bytes]) -> dict[str | bytes, Matrix]:
        cached: dict[str | bytes, Matrix] = {}
        with self._lock:
            for key in keys:
                if key in self._recent:
                    self._recent.move_to_end(key)
                    cached[key] = self._recent[key]
        return cached

    def _remember(self, encoded: dict[str | bytes, Matrix]) -> None:
        with self._lock:
            self._recent.update(encoded)
            while len(self._recent) > self.size:
                self._recent.popitem(last=False)


def _key(text: str) -> str | bytes:
    owner = CACHE_OWNER.get()
    if owner:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, key=owner.encode()).digest()
    if len(text) <= LONG:
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

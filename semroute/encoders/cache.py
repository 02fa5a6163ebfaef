"""Recent vectors, remembered."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from semroute import forks
from semroute.types import Encoder, Matrix

LONG = 512
"""Texts longer than this, in characters, are remembered by their hash, so that the cache stays small."""


class CachedEncoder:
    """An encoder that remembers the vectors of the last ``size`` different texts (least recently used go first).

    Safe to share between threads; a caller owns the array that it gets, so changing it cannot harm the cache.

    Args:
        encoder: what makes the vectors.
        size: texts to remember, at least 1.
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
        """The name of the encoder inside."""
        return self.encoder.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder inside."""
        return self.encoder.fingerprint

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self.encoder.dimensions

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``; ``(len(texts), dimensions)`` float32, unit rows. Only unknown texts are encoded, once each.

        Raises:
            EncoderError: the encoder inside failed; nothing of the batch is remembered then.
            TypeError: ``texts`` is one string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not one string")
        keys = [_key(text) for text in texts]
        found = self._look_up(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            # Outside the lock: a slow batch must not hold up those whose vectors are here.
            fresh = self.encoder.encode(list(missing.values()))
            found.update(zip(missing, fresh, strict=True))
            self._remember({key: found[key].copy() for key in missing})
        vectors = np.empty((len(keys), self.dimensions), dtype=np.float32)
        for row, key in enumerate(keys):
            vectors[row] = found[key]
        return vectors

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Tell for each text whether the encoder inside knows none of its words; False where it cannot tell."""
        unknown = getattr(self.encoder, "unknown", None)
        return [False] * len(texts) if unknown is None else list(unknown(texts))

    def _look_up(self, keys: Sequence[str | bytes]) -> dict[str | bytes, Matrix]:
        found: dict[str | bytes, Matrix] = {}
        with self._lock:
            for key in keys:
                if key in self._recent:
                    self._recent.move_to_end(key)
                    found[key] = self._recent[key]
        return found

    def _remember(self, fresh: dict[str | bytes, Matrix]) -> None:
        with self._lock:
            self._recent.update(fresh)
            while len(self._recent) > self.size:
                self._recent.popitem(last=False)


def _key(text: str) -> str | bytes:
    if len(text) <= LONG:
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

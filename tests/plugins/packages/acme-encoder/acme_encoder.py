"""An encoder: counts of hashed words, which needs no model."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Hashing:
    """Bag of words in as many dimensions as the argument says."""

    def __init__(self, argument: str) -> None:
        self.dimensions = int(argument or 256)
        self.name = f"hashing-{self.dimensions}"
        self.fingerprint = f"acme-hashing-v1-{self.dimensions}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.casefold()) or [""]:
                counts[row, zlib.crc32(word.encode()) % self.dimensions] += 1
        lengths: NDArray[np.float32] = np.linalg.norm(counts, axis=1, keepdims=True)
        return counts / lengths

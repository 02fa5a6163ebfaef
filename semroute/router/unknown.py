"""Texts of which an index's encoder knows no word, and the examples among them.

All such texts share one vector, so that scores say nothing of them: 👍 and 👎 are the same to an encoder whose
vocabulary has neither. They fit a category only where they are one of its examples, word for word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from semroute import forks
from semroute.errors import ArtifactError
from semroute.index import Artifact
from semroute.texts import folded
from semroute.types import Encoder

MOST_CHARACTERS = 200
"""Characters of the longest example that is kept for comparing."""

NO_SCORE = -2.0
SURE_SCORE = 2.0
"""Scores in an evaluation of texts that the encoder does not know: below every threshold, and above (cosines and
probabilities are from -1 to 1)."""

_SKIN_TONES = dict.fromkeys(range(0x1F3FB, 0x1F400))


class ExactExamples:
    """The stored examples without a Latin letter or digit, by their text. Safe to share between threads.

    They are read on first use; where they cannot be read, there are none.

    Args:
        artifact: the verified files.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._categories: Mapping[str, str | None] | None = None
        self._lock = forks.lock()

    def category(self, text: str) -> str | None:
        """Return the category that has ``text`` as an example; None where none has, or several have."""
        if len(text) > MOST_CHARACTERS or _has_latin(text):
            return None
        with self._lock:
            if self._categories is None:
                self._categories = self._read()
        return self._categories.get(_key(text))

    def _read(self) -> Mapping[str, str | None]:
        found: dict[str, set[str]] = defaultdict(set)
        try:
            for category, text in zip(*self._artifact.examples(), strict=True):
                if len(text) <= MOST_CHARACTERS and not _has_latin(text):
                    found[_key(text)].add(category)
        except (ArtifactError, OSError, ValueError):
            return {}
        return {text: next(iter(categories)) if len(categories) == 1 else None for text, categories in found.items()}


def unknown_texts(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.bool_]:
    """``(n,)`` whether the encoder knows no word of each text; False for encoders that cannot tell (remote ones)."""
    unknown = getattr(encoder, "unknown", None)
    return np.array([False] * len(texts) if unknown is None else unknown(texts), dtype=np.bool_)


def _has_latin(text: str) -> bool:
    return any(character.isascii() and character.isalnum() for character in text)


def _key(text: str) -> str:
    return folded(text).translate(_SKIN_TONES)

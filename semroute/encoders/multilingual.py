"""Multilingual encoder, alone and joined with the English one.

The joined encoder has two graphs: an English one (384 numbers) and a multilingual one (512), whose vectors of a text
and of its translation are close. Side by side they are at least as good at English as either. A text in another
language has no use for the English vector, which is noise there; its place is taken by what the *bridge* makes of the
multilingual vector: a linear map into the English encoder's space, fitted by ridge regression on English texts that
both see (``scripts/fit_bridge.py``). So a query lands beside its English examples, and examples, prototypes, head and
thresholds are shared by all languages.

No language is detected for it. The cosine of the English vector to what the bridge makes of the multilingual one shows
whether the English encoder understood the text: its median is .64 for English queries and .19 for others. The first
part of a vector is ``g * english + (1 - g) * bridged`` at unit length, with ``g`` a logistic function of that cosine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from semroute.arrays import read_npz
from semroute.encoders.onnx import OnnxEncoder, TextGraph, Tokens
from semroute.errors import EncoderError, MissingExtraError
from semroute.text.language import UNDETERMINED, detect_language, language_outside
from semroute.types import Matrix

MOST_UNKNOWN = 0.5
"""Share of letters outside the vocabulary from which a text is in a script that the encoder does not know."""

MOST_INNER = 0.2
"""Share of the English encoder's tokens that continue a word, up to which an ASCII text is English."""

MOST_PER_CHARACTER = 0.3
"""Tokens of the multilingual encoder for each character, up to which a text is in a language that it knows.

By these two, 90% of the held-out English queries and 98% of CLINC150's are known without language detection, and none
of 129 queries in unknown languages.
"""

LEAST_EXAMPLES = 0.02
"""Share of an index's examples from which their language counts as known."""

FEWEST_EXAMPLES = 3


def outside_language(text: str, languages: Collection[str], tokens: Tokens) -> str | None:
    """Return the language of a text if an encoder does not know it.

    Args:
        text: the text.
        languages: ISO 639-1 codes that the encoder knows.
        tokens: the multilingual tokenizer.

    Returns:
        An ISO 639-1 code, :data:`~semroute.text.language.UNDETERMINED`, or None for a known language. Without the
        extra "language", only scripts that the tokenizer does not cover are found.
    """
    is_unknown = tokens.unknown_share(text) > MOST_UNKNOWN
    if not is_unknown and tokens.per_character(text) <= MOST_PER_CHARACTER:
        return None
    try:
        return language_outside(text, languages) or (UNDETERMINED if is_unknown else None)
    except MissingExtraError:
        return UNDETERMINED if is_unknown else None


def languages_of(texts: Sequence[str], least: float) -> frozenset[str]:
    """Return the languages of at least ``least`` of the texts.

    None of them without the extra "language".
    """
    if len(texts) < least:
        return frozenset()
    try:
        counts = Counter(map(detect_language, texts))
    except MissingExtraError:
        return frozenset()
    return frozenset(language for language, count in counts.items() if language is not None and count >= least)


def _least(examples: int) -> float:
    return max(FEWEST_EXAMPLES, LEAST_EXAMPLES * examples)


class MultilingualEncoder(OnnxEncoder):
    """Encoder by an ONNX graph that knows some languages.

    Safe to share between threads.

    Args:
        model_path: the ``.onnx`` file.
        tokenizer_path: its ``tokenizer.json``.
        languages: ISO 639-1 codes of the languages that it was trained on.
        name: display name.
        fingerprint: changes whenever the same text could get another vector.
        dimensions: length of a vector.
        max_tokens: longer texts keep head and tail.
        threads: threads that share many texts; all available cores when None.

    Raises:
        EncoderError: a file is missing or damaged, or the graph's output has other dimensions.
    """

    def __init__(
        self,
        model_path: Path | str,
        tokenizer_path: Path | str,
        *,
        languages: Collection[str],
        name: str,
        fingerprint: str,
        dimensions: int,
        max_tokens: int = 256,
        threads: int | None = None,
    ) -> None:
        super().__init__(
            model_path,
            tokenizer_path,
            name=name,
            fingerprint=fingerprint,
            dimensions=dimensions,
            max_tokens=max_tokens,
            threads=threads,
        )
        self.languages = frozenset(languages)

    def __repr__(self) -> str:
        return f"MultilingualEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text if its words or its language are unknown."""
        known = self._graph.unknown(texts)
        return [
            by_words or self.unknown_language(text) is not None for text, by_words in zip(texts, known, strict=True)
        ]

    def unknown_language(self, text: str) -> str | None:
        """Return the language of a text if it is not a known one.

        See :func:`outside_language`.
        """
        return outside_language(text, self.languages, self._graph.tokens)

    def learn_languages(self, texts: Sequence[str]) -> None:
        """Count the languages of an index's examples as known."""
        self.languages |= languages_of(texts, _least(len(texts)))


# The joined encoder.


class Bridge:
    """Linear map from the multilingual to the English space, with a gate.

    Args:
        path: an ``.npz`` with ``map``, ``(multilingual + 1, english)`` with the constant in the last row; ``gate``, the
            cosine at which both halves count the same, and the steepness there; ``weight`` of the multilingual part.

    Raises:
        EncoderError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            stored = read_npz(path)
            self.matrix: Matrix = stored["map"].astype(np.float32)
            middle, steepness = stored["gate"].astype(np.float32).tolist()
            self.weight = float(stored["weight"].astype(np.float32).item())
        except (OSError, ValueError, KeyError) as error:
            raise EncoderError(f"{path}: not a usable bridge between two encoders ({error})") from error
        numbers = [middle, steepness, self.weight]
        if self.matrix.ndim != 2 or not np.isfinite(self.matrix).all() or not np.isfinite(numbers).all():
            raise EncoderError(f"{path}: not a usable bridge between two encoders (not a finite matrix)")
        self._middle, self._steepness = middle, steepness

    def join(self, english: Matrix, multilingual: Matrix) -> Matrix:
        """Join unit vectors of the same texts.

        Args:
            english: ``(n, e)``.
            multilingual: ``(n, m)``.

        Returns:
            ``(n, e + m)`` float32, unit rows.
        """
        bridged = _unit(multilingual @ self.matrix[:-1] + self.matrix[-1])
        agreement = (english * bridged).sum(axis=1, keepdims=True)
        gate = 1 / (1 + np.exp(-self._steepness * (agreement - self._middle)))
        first = _unit(gate * english + (1 - gate) * bridged)
        joined: Matrix = np.concatenate([first, self.weight * multilingual], axis=1) / np.hypot(1, self.weight)
        return joined.astype(np.float32, copy=False)


def _unit(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Matrix = vectors / np.maximum(lengths, 1e-6)
    return unit


class JoinedEncoder:
    """Encoder by an English and a multilingual graph, joined by a bridge.

    Safe to share between threads.

    Args:
        english: ``.onnx`` file and ``tokenizer.json`` of the English graph.
        multilingual: those of the multilingual graph.
        bridge_path: see :class:`Bridge`.
        languages: ISO 639-1 codes of the languages that the multilingual graph was trained on.
        name: display name.
        fingerprint: changes whenever the same text could get another vector.
        dimensions: length of a vector: that of both graphs' together.
        max_tokens: longer texts keep head and tail.
        threads: threads that share many texts; all available cores when None.

    Raises:
        EncoderError: a file is missing or damaged, or the parts do not fit together.
    """

    waits = False
    """It computes, and waits for nobody: concurrent queries may share one thread."""

    def __init__(
        self,
        english: tuple[Path, Path],
        multilingual: tuple[Path, Path],
        bridge_path: Path,
        *,
        languages: Collection[str],
        name: str,
        fingerprint: str,
        dimensions: int,
        max_tokens: int = 256,
        threads: int | None = None,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.languages = frozenset(languages)
        self.english, self.multilingual, self.bridge_path = english, multilingual, bridge_path
        self._bridge = Bridge(bridge_path)
        rows, width = self._bridge.matrix.shape
        if width + rows - 1 != dimensions:
            raise EncoderError(f"{bridge_path}: joins {width} and {rows - 1} numbers, not {dimensions} in all")
        self._english = TextGraph(*english, width=width, max_tokens=max_tokens, threads=threads)
        self._multilingual = TextGraph(*multilingual, width=rows - 1, max_tokens=max_tokens, threads=threads)

    def __repr__(self) -> str:
        return f"JoinedEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``, in order.

        Returns ``(len(texts), dimensions)`` float32, unit rows.
        """
        # One after the other: of a short text, a second thread takes as long to wake up as the smaller graph to run.
        english, multilingual = self._english(texts), self._multilingual(texts)
        return self._bridge.join(english, multilingual)

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text if its words or its language are unknown."""
        known = self._multilingual.unknown(texts)
        return [
            by_words or self.unknown_language(text) is not None for text, by_words in zip(texts, known, strict=True)
        ]

    def unknown_language(self, text: str) -> str | None:
        """Return the language of a text if it is not a known one.

        See :func:`outside_language`.
        """
        return None if self._is_english(text) else outside_language(text, self.languages, self._multilingual.tokens)

    def learn_languages(self, texts: Sequence[str]) -> None:
        """Count the languages of an index's examples as known."""
        self.languages |= languages_of([text for text in texts if not self._is_english(text)], _least(len(texts)))

    def _is_english(self, text: str) -> bool:
        return text.isascii() and self._english.tokens.inner_share(text) <= MOST_INNER

"""Vectors and token counts for commands that read outcomes; the encoder is opened when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from semroute.arrays import read_npz
from semroute.errors import InputError
from semroute.texts.digests import digest_of
from semroute.types.progress import Progress
from semroute.whole import atomic_write

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.index import Artifact, BothScores, FirstStage, Scorer
    from semroute.types import Encoder, Matrix


_NO_SCORES = ("examples", "fit", "vectors")
"""Files of an index that a score does not follow from."""


class Encoding:
    """The encoder and the categories that ``--index`` and ``--config`` name.

    Without an index the encoder is the one that an index would be built with, and there are no categories: nothing is
    built to embed.

    Args:
        index: folder of the index artifact.
        config_path: the configuration.
        shipped: whether the index of the shipped categories counts where it was built already.
    """

    def __init__(self, index: Path | None, config_path: Path | None, *, shipped: bool = False) -> None:
        self._index = index
        self._config_path = config_path
        self._shipped = shipped

    @cached_property
    def _config(self) -> Config:
        from semroute.config import load_config

        return load_config(self._config_path)

    @cached_property
    def _artifact(self) -> Artifact | None:
        from semroute.index import open_artifact
        from semroute.router.locate import built_shipped_index, locate_index

        folder = locate_index(self._index, self._config)
        if folder is None and self._shipped:
            folder = built_shipped_index()
        return None if folder is None else open_artifact(folder)

    @property
    def has_index(self) -> bool:
        """True if there is an index, and so categories."""
        return self._artifact is not None

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, opened once."""
        from semroute.router.live import open_encoder

        if self._artifact is not None:
            return open_encoder(self._artifact, self._config.encoder)
        from semroute.learn.pipeline import EncoderChoice, make_encoder

        return make_encoder(EncoderChoice.of(self._config), self._work)

    @cached_property
    def _work(self) -> Path:
        """A folder for the files of an encoder that no index holds; it goes with this object."""
        folder = mkdtemp(prefix="semroute-")
        finalize(self, rmtree, folder, ignore_errors=True)
        return Path(folder)

    @cached_property
    def categories(self) -> Matrix:
        """``(c, d)`` unit rows, the middle of each category of the index; none where there is no index."""
        if self._scorer is None:
            return np.zeros((0, self.encoder.dimensions), np.float32)
        return self._scorer.prototypes.centroids()

    @cached_property
    def thresholds(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """The categories of the index, and ``(c,)`` their thresholds; the configuration's go over the index's."""
        if self._artifact is None:
            return (), np.zeros(0)
        entries, own = self._artifact.manifest.categories, self._config.categories
        found = {name: entry.threshold for name, entry in entries.items()}
        found |= {name: one.threshold for name, one in own.items() if one.threshold is not None and name in found}
        return tuple(found), np.array(list(found.values()), np.float64)

    @property
    def index_fingerprint(self) -> str:
        """SHA-256, in hex, of what scores follow from: categories, encoder, prototypes and head."""
        if self._artifact is None:
            return digest_of(["no index"])
        manifest = self._artifact.manifest
        kept = [f"{role} {entry.sha256}" for role, entry in sorted(manifest.files.items()) if role not in _NO_SCORES]
        return digest_of([*manifest.categories, *kept, repr(manifest.weight)])

    def scores(self, vectors: Matrix) -> Matrix:
        """``(n, c)`` scores of the index's categories for ``(n, d)`` vectors of its encoder."""
        if self._scorer is None:
            return np.zeros((len(vectors), 0), np.float32)
        return self._scorer.scores(vectors)

    def both_scores(self, queries: Sequence[str], vectors: Matrix) -> BothScores:
        """Scores of ``n`` queries, of which the ``(n, d)`` vectors are, by each stage of the index."""
        from semroute.index import BothScores

        first = None if self._first is None else self._first.scorer.scores(self._first.encoder.encode(queries))
        return BothScores(first, self.scores(vectors))

    @property
    def bar(self) -> float:
        """The sureness from which on the first stage answers; out of reach where the index has none."""
        return float("inf") if self._first is None else self._first.bar

    @cached_property
    def _first(self) -> FirstStage | None:
        from semroute.router.live import open_first_stage

        return None if self._artifact is None else open_first_stage(self._artifact)

    @cached_property
    def _scorer(self) -> Scorer | None:
        from semroute.router.live import open_scorer

        return None if self._artifact is None else open_scorer(self._artifact)

    def best_of(self, scores: Matrix, thresholds: NDArray[np.float64]) -> tuple[Matrix, NDArray[np.bool_]]:
        """``(n,)`` the best category's score of each row, and whether it stays below the ``(c,)`` thresholds.

        Without any category the score is 0, and below.
        """
        if not len(thresholds):
            return np.zeros(len(scores), np.float32), np.ones(len(scores), np.bool_)
        best = scores.argmax(axis=1)
        top = scores[np.arange(len(scores)), best]
        return top, np.asarray(top < thresholds[best])

    @cached_property
    def tokenizer(self) -> str:
        """What counts tokens, for people."""
        return f"the tokenizer of {self.encoder.name}" if self._tokens is not None else "a rough estimate by characters"

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, by the encoder's tokenizer; of an encoder that has none here, roughly."""
        if self._tokens is not None:
            return [len(ids) for ids in self._tokens(texts)]
        from semroute.catalog.tokens import estimate_text_tokens

        return [estimate_text_tokens(text) for text in texts]

    @cached_property
    def _tokens(self) -> Any:
        from semroute.inference.tokens import Tokens

        path = getattr(getattr(self.encoder, "encoder", self.encoder), "tokenizer_path", None)
        # Counted to the end, however long the text is.
        return None if path is None else Tokens(path, max_tokens=1 << 30, special=False)

    def vectors(self, queries: Sequence[str], store: Path | None, progress: Progress) -> Matrix:
        """``(n, d)`` vectors, from ``store`` where it holds those of these queries; else made, and kept there.

        Args:
            queries: ``n`` texts.
            store: a ``.npz`` file; None keeps nothing.
            progress: called with what is done and how many of how many are.

        Raises:
            InputError: ``store`` cannot be read or written.
        """
        from semroute.learn.build import embed

        # Of these queries and of this encoder: another index has other vectors for the same queries.
        print_of = digest_of([self.encoder.fingerprint, *queries])
        if store is not None and store.exists():
            found = _stored(store, print_of)
            if found is not None:
                return found
        vectors = embed(self.encoder, queries, progress)
        if store is not None:
            _keep(store, print_of, vectors)
        return vectors


def _stored(store: Path, print_of: str) -> Matrix | None:
    try:
        arrays = read_npz(store)
        return np.asarray(arrays["vectors"], np.float32) if str(arrays["queries"]) == print_of else None
    except OSError as error:
        why = error.strerror or "a broken archive"
    except (ValueError, KeyError):
        why = "not an archive that --vectors wrote"
    raise InputError(f"{store}: cannot be read as stored vectors ({why}); remove it, or name another")


def _keep(store: Path, print_of: str, vectors: Matrix) -> None:
    try:
        with atomic_write(store) as part, part.open("wb") as stream:
            np.savez(stream, queries=np.array(print_of), vectors=vectors)
    except OSError as error:
        raise InputError(f"{store}: the vectors cannot be written ({error.strerror or error})") from error

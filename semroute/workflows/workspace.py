"""Workspace of a piece of work: index, configuration and encoder.

Each is opened when it is first needed, and once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from semroute.arrays import read_npz
from semroute.errors import ConfigError, InputError, MissingExtraError, StateError
from semroute.storage import atomic_write
from semroute.text.normalise import digest_of
from semroute.types.protocols import Progress, silent

if TYPE_CHECKING:
    from semroute.config import Config, Price
    from semroute.index import Artifact, BothScores, FirstStage, Scorer
    from semroute.outcomes.log import OutcomeLog
    from semroute.router import Router
    from semroute.types import Encoder, Matrix


Warn: TypeAlias = Callable[[str], None]
"""Receiver of warnings, a sentence each."""

_NO_SCORES = ("examples", "fit", "vectors")
"""Files of an index that do not affect a score."""


def unheard(message: str) -> None:
    """Ignore a warning."""


class Workspace:
    """Index, configuration and encoder, opened lazily and once.

    Without an index the encoder is that of a new index, and there are no categories: nothing is built to embed.

    Args:
        index: the index artifact, or its folder; None takes ``SEMROUTE_INDEX`` or the configuration's.
        config: the configuration, or its file; None takes ``semroute.yaml`` of the working folder if there is one.
        encoder: an open encoder, that of the index; None opens it when it is first needed.
        shipped: whether an index of the shipped categories counts, if it is built already.
    """

    def __init__(
        self,
        index: Artifact | Path | None = None,
        config: Config | Path | None = None,
        *,
        encoder: Encoder | None = None,
        shipped: bool = False,
    ) -> None:
        self._index = index
        self._config_source = config
        self._encoder = encoder
        self._shipped = shipped

    def with_shipped(self) -> Workspace:
        """Return a workspace in which an index of the shipped categories counts."""
        return Workspace(self._index, self.config, encoder=self._encoder, shipped=True)

    def with_config(self, config: Config) -> Workspace:
        """Return a workspace of another configuration."""
        return Workspace(self._index, config, encoder=self._encoder, shipped=self._shipped)

    @cached_property
    def config(self) -> Config:
        """Return the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        from semroute.config import Config, load_config

        given = self._config_source
        return given if isinstance(given, Config) else load_config(given)

    @cached_property
    def artifact(self) -> Artifact | None:
        """Return the index artifact; None without an index.

        Raises:
            ArtifactError: it cannot be used.
        """
        from semroute.index import open_artifact
        from semroute.router.load import built_shipped_index, locate_index

        if self._index is not None and not isinstance(self._index, Path):
            return self._index
        folder = locate_index(self._index, self.config)
        if folder is None and self._shipped:
            folder = built_shipped_index()
        return None if folder is None else open_artifact(folder)

    @property
    def has_index(self) -> bool:
        """True if there is an index, and so categories."""
        return self.artifact is not None

    @property
    def _folder(self) -> Path | None:
        """Return the folder of the named index."""
        return self._index if self._index is None or isinstance(self._index, Path) else self._index.folder

    def own_index(self) -> Artifact:
        """Open the user's index for a change; never the shared shipped one.

        Raises:
            ArtifactError: there is none, or it cannot be used.
        """
        from semroute.index import open_artifact
        from semroute.router.load import locate_index

        return open_artifact(locate_index(self._folder, self.config) or self.config.index)

    def serving_index(self, progress: Progress = silent) -> Artifact:
        """Open the serving index for reading; by default the shipped one.

        ``progress`` is called while the shipped index is built.

        Raises:
            ArtifactError: it cannot be used.
        """
        from semroute.index import open_artifact
        from semroute.router.load import locate_index, shipped_index

        return open_artifact(locate_index(self._folder, self.config) or shipped_index(progress))

    def router(
        self,
        *,
        state_file: Path | None = None,
        log: OutcomeLog | Literal[False] = False,
        progress: Progress = silent,
    ) -> Router:
        """Open a router; without an index it is that of the shipped categories.

        It opens its own encoder. Arguments as those of :meth:`semroute.router.Router.load`.
        """
        from semroute.router import Router

        return Router.load(self._folder, config=self.config, state_file=state_file, log=log, progress=progress)

    @contextmanager
    def logging_router(
        self,
        warn: Warn = unheard,
        *,
        state_file: Path | None = None,
        is_logged: bool = True,
        progress: Progress = silent,
    ) -> Iterator[Router]:
        """Open a router that logs outcomes, unless configured otherwise.

        Args:
            warn: receives the reason if the log cannot be opened.
            state_file: where the state of the deployments is left and taken up again.
            is_logged: False overrides the configuration.
            progress: called while the shipped index is built.
        """
        with self.new_outcomes(warn, is_logged=is_logged) as log:
            yield self.router(state_file=state_file, log=log or False, progress=progress)

    @contextmanager
    def new_outcomes(self, warn: Warn = unheard, *, is_logged: bool = True) -> Iterator[OutcomeLog | None]:
        """Open the log for new outcomes; None where nothing is to be logged.

        A log that cannot be opened is a warning, and does not stop the work.
        """
        if self.config.log.enabled is False or not is_logged:
            yield None
            return
        from semroute.outcomes.log import open_log

        try:
            log = open_log(self.config.log, os.environ)
        except (StateError, MissingExtraError) as error:
            warn(f"nothing is logged: {error}")
            yield None
            return
        with log:
            yield log

    def open_log(self, url: str | None = None) -> OutcomeLog:
        """Open the existing log.

        Args:
            url: address of the database; None takes ``log.url``.

        Raises:
            StateError: there is no log, or it cannot be opened.
            ConfigError: the configuration, or the address, cannot be used.
        """
        from pydantic import ValidationError

        from semroute.config.load import said_of
        from semroute.config.schema import Log
        from semroute.outcomes.log import open_log

        section = self.config.log
        if url is not None:
            try:
                section = Log.model_validate({**section.model_dump(), "url": url})
            except ValidationError as error:
                raise ConfigError(said_of(error).removeprefix("url: "), key="--log") from None
        return open_log(section, os.environ, must_exist=True)

    def prices(self, path: Path | None = None) -> dict[str, Price]:
        """Return the prices of a file, or else those of the configuration.

        USD per million tokens, by model.

        Raises:
            InputError: either cannot be used.
        """
        from semroute.outcomes.costs import configured_prices, read_prices

        return read_prices(path) if path is not None else configured_prices(self.config)

    # Encoder and scores.

    @cached_property
    def encoder(self) -> Encoder:
        """Return the encoder, opened once."""
        from semroute.router.load import open_encoder

        if self._encoder is not None:
            return self._encoder
        if self.artifact is not None:
            return open_encoder(self.artifact, self.config.encoder)
        from semroute.learn.build import EncoderChoice, make_encoder

        return make_encoder(EncoderChoice.of(self.config), self._scratch)

    @cached_property
    def _scratch(self) -> Path:
        """Return a temporary folder for encoder files, removed with this object."""
        folder = mkdtemp(prefix="semroute-")
        finalize(self, rmtree, folder, ignore_errors=True)
        return Path(folder)

    @cached_property
    def categories(self) -> Matrix:
        """Return ``(c, d)`` unit rows: category centroids; none without an index."""
        if self._scorer is None:
            return np.zeros((0, self.encoder.dimensions), np.float32)
        return self._scorer.prototypes.centroids()

    @cached_property
    def thresholds(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the categories, and ``(c,)`` their thresholds.

        Thresholds of the configuration override those of the index.
        """
        if self.artifact is None:
            return (), np.zeros(0)
        entries, overrides = self.artifact.manifest.categories, self.config.categories
        found = {name: entry.threshold for name, entry in entries.items()}
        found |= {name: one.threshold for name, one in overrides.items() if one.threshold is not None and name in found}
        return tuple(found), np.array(list(found.values()), np.float64)

    @property
    def index_fingerprint(self) -> str:
        """Return the SHA-256, in hex, of all that determines scores.

        These are categories, encoder, prototypes and head.
        """
        if self.artifact is None:
            return digest_of(["no index"])
        manifest = self.artifact.manifest
        files = [f"{role} {entry.sha256}" for role, entry in sorted(manifest.files.items()) if role not in _NO_SCORES]
        return digest_of([*manifest.categories, *files, repr(manifest.weight)])

    def scores(self, vectors: Matrix) -> Matrix:
        """Return ``(n, c)`` category scores of ``(n, d)`` vectors."""
        if self._scorer is None:
            return np.zeros((len(vectors), 0), np.float32)
        return self._scorer.scores(vectors)

    def both_scores(self, queries: Sequence[str], vectors: Matrix) -> BothScores:
        """Return scores of ``n`` queries by each stage of the index.

        ``vectors`` are their ``(n, d)`` vectors.
        """
        from semroute.index import BothScores

        first = None if self._first is None else self._first.scorer.scores(self._first.encoder.encode(queries))
        return BothScores(first, self.scores(vectors))

    @property
    def accept_threshold(self) -> float:
        """Return the first stage's accept threshold; infinite without a stage."""
        return float("inf") if self._first is None else self._first.bar

    @cached_property
    def _first(self) -> FirstStage | None:
        from semroute.router.load import open_first_stage

        return None if self.artifact is None else open_first_stage(self.artifact)

    @cached_property
    def _scorer(self) -> Scorer | None:
        from semroute.router.load import open_scorer

        return None if self.artifact is None else open_scorer(self.artifact)

    def best_of(self, scores: Matrix, thresholds: NDArray[np.float64]) -> tuple[Matrix, NDArray[np.bool_]]:
        """Return ``(n,)`` best scores, and whether each is below its threshold.

        ``thresholds`` are ``(c,)``. Without any category the score is 0, and below.
        """
        if not len(thresholds):
            return np.zeros(len(scores), np.float32), np.ones(len(scores), np.bool_)
        best = scores.argmax(axis=1)
        top = scores[np.arange(len(scores)), best]
        return top, np.asarray(top < thresholds[best])

    # Tokens and vectors.

    @cached_property
    def tokenizer(self) -> str:
        """Return the name of the token counter, for people."""
        return f"the tokenizer of {self.encoder.name}" if self._tokens is not None else "a rough estimate by characters"

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return each text's tokens; an estimate for encoders without a tokenizer."""
        if self._tokens is not None:
            return [len(ids) for ids in self._tokens(texts)]
        from semroute.catalog.tokens import estimate_text_tokens

        return [estimate_text_tokens(text) for text in texts]

    @cached_property
    def _tokens(self) -> Any:
        from semroute.encoders.onnx import Tokens

        path = getattr(getattr(self.encoder, "encoder", self.encoder), "tokenizer_path", None)
        # Counted without truncation, however long the text is.
        return None if path is None else Tokens(path, max_tokens=1 << 30, special=False)

    def vectors(self, queries: Sequence[str], store: Path | None = None, progress: Progress = silent) -> Matrix:
        """Return ``(n, d)`` vectors, from ``store`` if it has them, else computed.

        Computed vectors are saved to ``store``.

        Args:
            queries: ``n`` texts.
            store: a ``.npz`` file; None stores nothing.
            progress: called with a step's name, the number done and the total.

        Raises:
            InputError: ``store`` cannot be read or written.
        """
        from semroute.learn.artifact import embed

        # The key covers queries and encoder: another index has other vectors for the same queries.
        key = digest_of([self.encoder.fingerprint, *queries])
        if store is not None and store.exists():
            found = _read_vectors(store, key)
            if found is not None:
                return found
        vectors = embed(self.encoder, queries, progress)
        if store is not None:
            _write_vectors(store, key, vectors)
        return vectors


def _read_vectors(store: Path, key: str) -> Matrix | None:
    """Return the stored vectors; None if they are of other queries."""
    try:
        arrays = read_npz(store)
        return np.asarray(arrays["vectors"], np.float32) if str(arrays["queries"]) == key else None
    except OSError as error:
        why = error.strerror or "a broken archive"
    except (ValueError, KeyError):
        why = "not an archive that --vectors wrote"
    raise InputError(f"{store}: cannot be read as stored vectors ({why}); remove it, or name another")


def _write_vectors(store: Path, key: str, vectors: Matrix) -> None:
    try:
        with atomic_write(store) as part, part.open("wb") as stream:
            np.savez(stream, queries=np.array(key), vectors=vectors)
    except OSError as error:
        raise InputError(f"{store}: the vectors cannot be written ({error.strerror or error})") from error

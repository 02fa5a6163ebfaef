"""Encoder, router and artifacts of a command, and training inputs.

The encoder is opened when it is first needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from semroute.arrays import read_npz
from semroute.errors import InputError
from semroute.storage import atomic_write
from semroute.text.normalise import digest_of
from semroute.types.protocols import Progress

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.index import Artifact, BothScores, FirstStage, Scorer
    from semroute.learn.estimators import TrainingRows
    from semroute.learn.query_quality import Setting, TrainedQueries, Worth
    from semroute.outcomes.costs import Costs
    from semroute.outcomes.log import OutcomeLog
    from semroute.router import Router
    from semroute.types import Encoder, Matrix


_NO_SCORES = ("examples", "fit", "vectors")
"""Files of an index that do not affect a score."""


class Encoding:
    """Encoder and categories of ``--index`` and ``--config``, opened lazily.

    Without an index the encoder is that of a new index, and there are no categories: nothing is built to embed.

    Args:
        index: folder of the index artifact.
        config_path: the configuration.
        shipped: whether an index of the shipped categories counts, if it is built already.
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
        from semroute.router.load import built_shipped_index, locate_index

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
        """Return the encoder, opened once."""
        from semroute.router.load import open_encoder

        if self._artifact is not None:
            return open_encoder(self._artifact, self._config.encoder)
        from semroute.learn.build import EncoderChoice, make_encoder

        return make_encoder(EncoderChoice.of(self._config), self._work)

    @cached_property
    def _work(self) -> Path:
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
        if self._artifact is None:
            return (), np.zeros(0)
        entries, own = self._artifact.manifest.categories, self._config.categories
        found = {name: entry.threshold for name, entry in entries.items()}
        found |= {name: one.threshold for name, one in own.items() if one.threshold is not None and name in found}
        return tuple(found), np.array(list(found.values()), np.float64)

    @property
    def index_fingerprint(self) -> str:
        """Return the SHA-256, in hex, of all that determines scores.

        These are categories, encoder, prototypes and head.
        """
        if self._artifact is None:
            return digest_of(["no index"])
        manifest = self._artifact.manifest
        kept = [f"{role} {entry.sha256}" for role, entry in sorted(manifest.files.items()) if role not in _NO_SCORES]
        return digest_of([*manifest.categories, *kept, repr(manifest.weight)])

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
    def bar(self) -> float:
        """Return the first stage's accept threshold; unreachable without a stage."""
        return float("inf") if self._first is None else self._first.bar

    @cached_property
    def _first(self) -> FirstStage | None:
        from semroute.router.load import open_first_stage

        return None if self._artifact is None else open_first_stage(self._artifact)

    @cached_property
    def _scorer(self) -> Scorer | None:
        from semroute.router.load import open_scorer

        return None if self._artifact is None else open_scorer(self._artifact)

    def best_of(self, scores: Matrix, thresholds: NDArray[np.float64]) -> tuple[Matrix, NDArray[np.bool_]]:
        """Return ``(n,)`` best scores, and whether each is below its threshold.

        ``thresholds`` are ``(c,)``. Without any category the score is 0, and below.
        """
        if not len(thresholds):
            return np.zeros(len(scores), np.float32), np.ones(len(scores), np.bool_)
        best = scores.argmax(axis=1)
        top = scores[np.arange(len(scores)), best]
        return top, np.asarray(top < thresholds[best])

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

    def vectors(self, queries: Sequence[str], store: Path | None, progress: Progress) -> Matrix:
        """Return ``(n, d)`` vectors, from ``store`` if it has them, else computed.

        Computed vectors are saved to ``store``.

        Args:
            queries: ``n`` texts.
            store: a ``.npz`` file; None keeps nothing.
            progress: called with a step's name, the number done and the total.

        Raises:
            InputError: ``store`` cannot be read or written.
        """
        from semroute.learn.artifact import embed

        # The key covers queries and encoder: another index has other vectors for the same queries.
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


# The artifact that a command works on, with a progress bar if it must be built first.


def open_router(
    index: Path | None,
    config_path: Path | None,
    *,
    state_file: Path | None = None,
    log: OutcomeLog | Literal[False] = False,
) -> Router:
    """Open the router of ``--index`` and ``--config``.

    Without an index it is that of the shipped categories.
    """
    from semroute.cli.console import progress_bars
    from semroute.router import Router

    with progress_bars() as progress:
        return Router.load(index, config=config_path, state_file=state_file, log=log, progress=progress)


@contextmanager
def logging_router(
    index: Path | None, config_path: Path | None, *, state_file: Path | None = None, is_wanted: bool = True
) -> Iterator[Router]:
    """Open a router that logs outcomes, unless configured otherwise.

    ``is_wanted`` is False where the command's user disables the log, which overrides the configuration.
    """
    from semroute.config import load_config

    with command_log(load_config(config_path), is_wanted=is_wanted) as log:
        yield open_router(index, config_path, state_file=state_file, log=log or False)


@contextmanager
def command_log(config: Config, *, is_wanted: bool = True) -> Iterator[OutcomeLog | None]:
    """Open the log of a command that answers queries.

    A log that cannot be opened is reported, and does not stop the command.
    """
    from semroute.cli.console import print_warning
    from semroute.errors import MissingExtraError, StateError

    if config.log.enabled is False or not is_wanted:
        yield None
        return
    from semroute.outcomes.log import open_log

    try:
        log = open_log(config.log, os.environ)
    except (StateError, MissingExtraError) as error:
        print_warning(f"nothing is logged: {error}")
        yield None
        return
    with log:
        yield log


def own_artifact(index: Path | None, config: Config) -> Artifact:
    """Open the user's artifact for a change; never the shared shipped one.

    Raises:
        ArtifactError: there is none, or it cannot be used.
    """
    from semroute.index import open_artifact
    from semroute.router.load import locate_index

    return open_artifact(locate_index(index, config) or config.index)


def any_artifact(index: Path | None, config_path: Path | None) -> Artifact:
    """Open the serving artifact for reading; by default the shipped one.

    Raises:
        ArtifactError: it cannot be used.
    """
    from semroute.cli.console import progress_bars
    from semroute.config import load_config
    from semroute.index import open_artifact
    from semroute.router.load import locate_index, shipped_index

    with progress_bars() as progress:
        return open_artifact(locate_index(index, load_config(config_path)) or shipped_index(progress))


# Training inputs of ``semroute train``.


@dataclass(frozen=True, slots=True)
class TrainSource:
    """Inputs and options of ``semroute train``.

    Attributes:
        outcomes: files of outcomes.
        prices: file of prices; None takes those of the configuration.
        models: names; None takes all.
        most: maximum number of queries to train on; of more, a sample is drawn.
        seed: of the sample.
        store: file of cached vectors.
    """

    outcomes: Sequence[Path]
    prices: Path | None
    models: tuple[str, ...] | None
    most: int
    seed: int
    store: Path | None


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """Training data, and what was left out of it.

    Attributes:
        rows: queries, vectors and quality.
        setting: encoder, categories and expected costs.
        costs: costs of the rows.
        left_out: number of rows in the files that are not used.
    """

    rows: TrainingRows
    setting: Setting
    costs: Costs
    left_out: int

    def worth(self, trained: TrainedQueries) -> Worth | None:
        """Return the value at which the classifier matches the best single model.

        It is measured on out-of-fold rows.
        """
        from semroute.evaluate.replay import asked_tokens
        from semroute.learn.query_quality import matching_value

        table, judged = self.costs.table, trained.judged
        # Without tasks: at routing time a query's task is unknown.
        expected = self.setting.costs.expected(asked_tokens(table.queries))[judged]
        quality, paid = self.rows.quality[judged], table.cost[judged].astype("float64")
        return matching_value(trained.left_out, quality, paid, expected)


def gather(source: TrainSource, encoding: Encoding, config_path: Path | None, progress: Progress) -> TrainInputs:
    """Read the files, and embed the queries.

    Raises:
        InputError: a file cannot be used, a model has neither price nor cost, or there is too little to train on.
    """
    from semroute.cli.policy_inputs import known_prices
    from semroute.evaluate.replay import call_costs
    from semroute.learn.estimators import TrainingRows, usable_rows
    from semroute.learn.query_quality import Setting
    from semroute.outcomes.costs import with_costs
    from semroute.outcomes.files import read_outcomes

    prices = known_prices(source.prices, config_path)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=encoding.count)
    if source.models is not None:
        table = table.with_models(source.models)
    usable = usable_rows(table, max_rows=source.most, seed=source.seed)
    costs = with_costs(table.take(usable.rows), prices, encoding.count)
    progress("reading", 1, 1)
    vectors = encoding.vectors(costs.table.queries, source.store, progress)
    table = costs.table
    rows = TrainingRows.of(table.queries, vectors, table.quality.astype("float64"), table.models, encoding.categories)
    setting = Setting(encoding.encoder.fingerprint, call_costs(costs), encoding.categories)
    return TrainInputs(rows, setting, costs, usable.left_out)

"""Loading of an index: locate, check and open it, and reload it.

Finds the artifact folder, opens encoders, scorers and thresholds, refuses parts that do not fit together, explains a
decision by the nearest stored examples, and switches to an artifact that was replaced without dropping a query.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
import platformdirs
from numpy.typing import NDArray

from semroute import __version__, forks
from semroute.config import Config, NamedEncoder
from semroute.config.load import configured
from semroute.encoders.cache import CachedEncoder
from semroute.encoders.onnx import available_cores
from semroute.encoders.registry import load_encoder
from semroute.errors import ArtifactBusyError, ArtifactError, ConfigError, EncoderError, SemrouteError
from semroute.index import Artifact, FirstStage, PrototypeIndex, Scorer, StageParts, open_artifact
from semroute.index.manifest import MANIFEST, FirstStageEntry, Manifest
from semroute.predictors.category_head import MlpHead
from semroute.router.query import ExactExamples
from semroute.strategies import CategoryMatcher
from semroute.text.names import known_names
from semroute.types import AdmissionControl, CategoryScorer, Encoder, Matrix, OutcomeSink
from semroute.types.protocols import Progress, silent
from semroute.types.tracing import Tracer

if TYPE_CHECKING:
    import httpx

HttpClient: TypeAlias = "httpx.AsyncClient | Callable[[], httpx.AsyncClient] | None"


class RouterOptions(TypedDict, total=False):
    """Options that ``Router.load`` and ``Router.from_examples`` share.

    Attributes:
        config: a configuration, its sections or its file; None takes ``semroute.yaml`` of the working folder if there
            is one.
        log: True stores outcomes in the configured database; or a sink that stores them, which the router closes; None
            takes ``log.enabled``, which is off by default.
        state_file: where the state of the deployments is left and taken up again; None neither reads nor writes.
        http_client: client for the calls of one event loop, which stays the caller's to close; or a function that opens
            one for each loop, which the router closes; None takes the one that routers share on each loop, which the
            last of them closes.
        gates: admission control, which stays the caller's to close; None takes that of ``state`` in the configuration,
            which is in this process or in a Redis.
        env: holds the keys of providers, the passwords of databases and ``SEMROUTE_INDEX``; ``os.environ`` by default.
            Proxies are always those of the process.
        clock: seconds since 1970 that never go back, for the time of outcomes, for limits, breakers and monthly budgets
            in this process, and for ``reload_every_s``; None takes the machine's. Deadlines and latencies are always
            the machine's.
        tracer: gets decisions and attempts, as that of :func:`~semroute.router.tracing.open_tracer`; None traces
            nothing. It stays the caller's to close.
        progress: called with step, done and total while an index is built.
        strategies: factories of strategies by name, which the sections or the file may name; with a
            :class:`~semroute.config.Config` they go to :func:`~semroute.config.load_config` instead.
        checks: factories of checks by name, likewise.
        providers: factories of provider adapters by name, likewise.
    """

    config: Config | Mapping[str, Any] | Path | str | None
    log: OutcomeSink | bool | None
    state_file: Path | None
    http_client: HttpClient
    gates: AdmissionControl | None
    env: Mapping[str, str]
    clock: Callable[[], float] | None
    tracer: Tracer | None
    progress: Progress
    strategies: Mapping[str, Any] | None
    checks: Mapping[str, Any] | None
    providers: Mapping[str, Any] | None


def config_of(options: RouterOptions, encoders: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration that options hold or name, with plugins.

    Raises:
        TypeError: there is no option of a name.
        ConfigError, PluginError: see :func:`~semroute.config.load.configured`.
    """
    unknown = sorted(options.keys() - RouterOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"a router has no option {unknown[0]!r}; it has {', '.join(RouterOptions.__annotations__)}")
    return configured(
        options.get("config"),
        strategies=options.get("strategies"),
        checks=options.get("checks"),
        encoders=encoders,
        providers=options.get("providers"),
    )


# Encoder and scorer of a stage, from the parts of an artifact; parts that do not fit together are refused.

PROBE_COSINE = 0.995
"""Cosine of probe vectors below which this machine's arithmetic differs from that of the index's builder."""
TRIAL_TEXTS = ("?", "how long do I boil an egg", "Explain this sentence, and whatever stands in it. " * 40)
"""Texts that every encoder has to embed before it serves: one token, a query, and a text that is truncated."""
UNIT_TOLERANCE = 1e-2


def stage_encoder(
    parts: StageParts, folder: Path, named: NamedEncoder | None = None, env: Mapping[str, str] = os.environ
) -> Encoder:
    """Open a stage's encoder and try it on some texts.

    Warns if this machine's arithmetic differs from the builder's.

    Args:
        parts: files and manifest entry of the stage.
        folder: folder of the artifact.
        named: the remote or torch encoder that the configuration names.
        env: environment that holds the key of a remote encoder.

    Raises:
        ArtifactError: it cannot be used: its files are damaged, it does not embed texts, its vectors have other
            dimensions than the stage, or it is a remote or torch encoder that ``named`` is not.
        EncoderError, MissingExtraError: a torch model cannot be loaded here.
    """
    entry = parts.entry
    # A torch model or a plugin that cannot be loaded here is no fault of the artifact.
    of_artifact = [] if parts.encoder.get("kind") in ("torch", "plugin") else [EncoderError]
    with _fitting(folder, *of_artifact):
        encoder = load_encoder(parts.encoder, folder, named, env)
        if encoder.dimensions != entry.dimensions:
            raise ValueError(f"an encoder of {encoder.dimensions} dimensions, not {entry.dimensions}")
        # A remote encoder is not asked at start: it may be down, and each question costs money.
        if parts.encoder.get("kind") != "remote":
            try_encoder(encoder)
            if entry.probes:
                texts, vectors = zip(*entry.probes, strict=True)
                _check_probes(encoder.encode(texts), np.array(vectors, dtype=np.float32), folder)
    return encoder


def stage_scorer(parts: StageParts, folder: Path) -> Scorer:
    """Open a stage's prototypes, head and calibration, and try them.

    Raises:
        ArtifactError: they are damaged, or do not fit together.
    """
    entry = parts.entry
    with _fitting(folder):
        prototypes = PrototypeIndex.read(parts.files["prototypes"], parts.prototypes)
        if prototypes.dimensions != entry.dimensions:
            raise ValueError(f"prototypes of {prototypes.dimensions} dimensions, not {entry.dimensions}")
        head = None if entry.head is None else _head(parts)
        background, share = (None, 0.0) if isinstance(entry, FirstStageEntry) else _background(parts, entry)
        scorer = Scorer(prototypes, head, entry.weight, entry.calibration, background, share)
        _try_scorer(scorer, entry.dimensions, len(parts.prototypes))
    return scorer


@contextmanager
def _fitting(folder: Path, *more: type[Exception]) -> Iterator[None]:
    """Turn errors of NumPy, FAISS, ONNX and ``more`` into ArtifactError."""
    foreign: tuple[type[Exception], ...] = (
        *more,
        LookupError,
        ValueError,
        TypeError,
        OSError,
        RuntimeError,
        AttributeError,
    )
    try:
        with np.errstate(all="ignore"):  # numbers out of range show in the result
            yield
    except foreign as error:
        if isinstance(error, FileNotFoundError):
            raise ArtifactError(
                f"{folder}: {error.filename} is gone, since the index was replaced; try again"
            ) from error
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"{folder}: the index does not fit together ({what}); build it again") from error
    except MemoryError as error:
        raise ArtifactError(f"{folder}: the index needs more memory than there is; build it again") from error


def _head(parts: StageParts) -> MlpHead:
    head = MlpHead.read(parts.files["head"])
    if parts.entry.head != head.kind:
        raise ValueError(f"a head of the unknown kind {_quoted(parts.entry.head)}")
    categories = len(parts.prototypes)
    if (head.direct.shape, head.output.shape[1]) != ((parts.entry.dimensions, categories), categories):
        raise ValueError("the head is for other categories or other vectors")
    return head


def _background(parts: StageParts, manifest: Manifest) -> tuple[MlpHead | None, float]:
    """Open the background head; return it with its share."""
    if not manifest.background:
        return None, 0.0
    head, classes = MlpHead.read(parts.files["background"]), len(parts.prototypes) + 1
    if (head.direct.shape, head.output.shape[1]) != ((manifest.dimensions, classes), classes):
        raise ValueError("the background head is for other categories or other vectors")
    return head, manifest.background


def _quoted(text: str | None) -> str:
    return f'"{ascii(text)[1:-1][:40]}"'


def try_encoder(encoder: Encoder) -> None:
    """Embed :data:`TRIAL_TEXTS` one by one, and the short ones together.

    That is how a serving process embeds.

    Raises:
        ValueError: the results are no unit vectors.
    """
    # Two for each core: else each would be a run of its own.
    short = TRIAL_TEXTS[:2] * available_cores()
    made = [(encoder.encode([text]), 1) for text in TRIAL_TEXTS]
    for vectors, count in (*made, (encoder.encode(short), len(short))):
        if vectors.shape != (count, encoder.dimensions) or vectors.dtype != np.float32:
            raise ValueError(f"the encoder gives {vectors.dtype} {vectors.shape} for {count} texts")
        lengths = np.linalg.norm(vectors, axis=1)
        if not (np.abs(lengths - 1.0) <= UNIT_TOLERANCE).all():  # so that NaN is refused too
            raise ValueError("the encoder's vectors are not of unit length")


def _try_scorer(scorer: Scorer, dimensions: int, categories: int) -> None:
    """Score some vectors, one alone and several together.

    Raises:
        ValueError: the results are no scores.
    """
    # Waves that turn every way: numpy.random takes longer to import than the trial takes.
    spread = np.sin(np.arange(1.0, 3 * dimensions + 1) ** 2).reshape(3, dimensions)
    vectors: Matrix = (spread / np.linalg.norm(spread, axis=1, keepdims=True)).astype(np.float32)
    for rows in (vectors[:1], vectors):
        scores = scorer.scores(rows)
        if scores.shape != (len(rows), categories) or not np.isfinite(scores).all():
            raise ValueError("the scores of the categories are not numbers, one each")
        confidence = scorer.confidence(scores)
        if confidence.shape != (len(rows),) or not ((confidence >= 0) & (confidence <= 1)).all():
            raise ValueError("the calibration gives no probabilities")


def _check_probes(actual: NDArray[np.float32], expected: NDArray[np.float32], folder: Path) -> None:
    if actual.shape != expected.shape:
        raise ValueError(f"probes of the shape {expected.shape} where the encoder gives {actual.shape}")
    lowest = float((actual * expected).sum(axis=1).min())
    if not lowest >= PROBE_COSINE:  # so that NaN warns too
        log.warning(
            "%s: this machine embeds the index's probe texts differently than the machine that built it "
            "(cosine %.4f); build the index here for the measured accuracy",
            folder,
            lowest,
        )


# The loaded index: encoders, scorers and thresholds in memory.


@dataclass(frozen=True, slots=True)
class LoadedIndex:
    """Loaded index: all that routing needs from one artifact.

    It is replaced as a whole.

    Attributes:
        artifact: the verified files and the manifest.
        encoder: with a cache of recent vectors.
        scorer: scores of all categories from its vectors.
        first: the first stage, with a cache of its own; None where the artifact has none.
        semantic: decides by thresholds; configured ones override the artifact's.
        models: models of each category in order; the fallback's if neither file nor configuration names any.
        fallback: models for queries that fit no category.
        examples: stored examples that may be outside the encoder's vocabulary, for exact matching.
        without_models: categories of which neither file nor configuration names models.
    """

    artifact: Artifact
    encoder: Encoder
    scorer: CategoryScorer
    first: FirstStage | None
    semantic: CategoryMatcher
    models: dict[str, tuple[str, ...]]
    fallback: tuple[str, ...]
    examples: ExactExamples
    without_models: frozenset[str] = frozenset()

    @classmethod
    def open(cls, folder: Path, config: Config, env: Mapping[str, str] = os.environ) -> LoadedIndex:
        """Open the artifact in ``folder`` with the overrides of ``config``.

        Args:
            folder: the artifact's folder.
            config: overrides of its categories, and the encoder that it may use besides its own.
            env: environment that holds the key of a remote encoder.

        Raises:
            ArtifactError: it is missing, damaged, foreign or of another version, or asks for a remote or torch encoder
                that the configuration does not name.
            ConfigError: the configuration names a category that is not in the index.
            EncoderError, MissingExtraError: a torch encoder cannot be loaded here.
        """
        artifact = open_artifact(folder)
        scorer, first = open_scorer(artifact), open_first_stage(artifact)
        encoder = open_encoder(artifact, config.encoder, env)
        return cls.of(artifact, encoder, scorer, first, config)

    @classmethod
    def of(
        cls, artifact: Artifact, encoder: Encoder, scorer: Scorer, first: FirstStage | None, config: Config
    ) -> LoadedIndex:
        """Return the index of opened parts, with caches of recent vectors.

        Raises:
            ConfigError: the configuration names a category that is not in the index.
        """
        if first is not None:
            first = replace(first, encoder=CachedEncoder(first.encoder))
        semantic, models = _laid_over(artifact, config)
        bare, examples = _without_models(artifact, config), ExactExamples(artifact)
        cached, models_left = CachedEncoder(encoder), config.fallback.models
        return cls(artifact, cached, scorer, first, semantic, models, models_left, examples, bare)

    @property
    def waits(self) -> bool:
        """True if the encoder may wait for a server.

        Then a query is decided in a thread of its own.

        In one thread for all, a server that hangs would hold up every query.
        """
        return bool(getattr(self.encoder, "waits", True))

    def with_config(self, config: Config) -> LoadedIndex:
        """Return the same artifact and encoders under another configuration.

        Both share their cached vectors.

        Raises:
            ConfigError: the configuration names a category that is not in the index.
        """
        semantic, models = _laid_over(self.artifact, config)
        bare = _without_models(self.artifact, config)
        return replace(self, semantic=semantic, models=models, fallback=config.fallback.models, without_models=bare)


def _laid_over(artifact: Artifact, config: Config) -> tuple[CategoryMatcher, dict[str, tuple[str, ...]]]:
    """Return thresholds and models of the categories, with overrides."""
    entries = artifact.manifest.categories
    unknown = sorted(set(config.categories) - set(entries))
    if unknown:
        known = known_names(unknown[0], entries, "it has")
        raise ConfigError(f"the index {artifact.folder} has no such category; {known}", key=f"categories.{unknown[0]}")
    models: dict[str, tuple[str, ...]] = {}
    thresholds = []
    for name, entry in entries.items():
        override = config.categories.get(name)
        models[name] = (override and override.models) or entry.models or config.fallback.models
        pinned = None if override is None else override.threshold
        thresholds.append(entry.threshold if pinned is None else pinned)
    return CategoryMatcher(tuple(entries), np.array(thresholds, dtype=np.float64)), models


def _without_models(artifact: Artifact, config: Config) -> frozenset[str]:
    named = {name for name, override in config.categories.items() if override.models}
    return frozenset(name for name, entry in artifact.manifest.categories.items() if not entry.models) - named


def open_encoder(artifact: Artifact, named: NamedEncoder | None = None, env: Mapping[str, str] = os.environ) -> Encoder:
    """Open the artifact's encoder.

    Warns if this machine's arithmetic differs from the builder's.

    Args:
        artifact: the verified files.
        named: the remote or torch encoder that the configuration names (``Config.encoder``).
        env: environment that holds the key of a remote encoder.

    Raises:
        ArtifactError: it cannot be used, or is a remote or torch encoder that ``named`` is not.
        EncoderError, MissingExtraError: a torch encoder cannot be loaded here.
    """
    return stage_encoder(artifact.main, artifact.folder, named, env)


def open_scorer(artifact: Artifact) -> Scorer:
    """Open the artifact's prototypes, head and calibration.

    Raises:
        ArtifactError: the parts do not fit together.
    """
    return stage_scorer(artifact.main, artifact.folder)


def open_first_stage(artifact: Artifact) -> FirstStage | None:
    """Open the artifact's first stage, None if it has none.

    Warns as :func:`open_encoder` does.

    Raises:
        ArtifactError: its parts do not fit together or not to the index, or its encoder is none of its own files.
    """
    parts, entry = artifact.first, artifact.manifest.first_stage
    if parts is None or entry is None:
        return None
    return FirstStage(stage_encoder(parts, artifact.folder), stage_scorer(parts, artifact.folder), entry.bar)


CHUNK = 65_536
"""Stored vectors that are compared at once, about 100 MB of 384 dimensions."""
TOGETHER = 64
"""Texts that are compared with stored vectors at once."""


@dataclass(frozen=True, slots=True)
class NearestExample:
    """Stored example and its cosine to the query."""

    category: str
    query: str
    similarity: float


def nearest_examples(live: LoadedIndex, text: str, count: int = 5) -> list[NearestExample]:
    """Return the stored examples most similar to a text, best first.

    Equal ones are in the stored order. The examples' vectors are memory-mapped for this call only: routing itself
    never needs them.

    Args:
        live: the artifact in memory.
        text: the routed text (:attr:`semroute.types.Decision.query`).
        count: how many to return; fewer where the index holds fewer.

    Raises:
        ArtifactError: the artifact was replaced twice since it was opened, or its examples and vectors do not match.
    """
    return nearest_to_each(live.artifact, live.encoder, [text], count)[0]


def nearest_to_each(
    artifact: Artifact, encoder: Encoder, texts: Sequence[str], count: int = 1
) -> list[list[NearestExample]]:
    """Return the most similar stored examples of each text.

    Each list is as of :func:`nearest_examples`.

    Raises:
        ArtifactError: as :func:`nearest_examples`.
    """
    try:
        vectors = artifact.vectors()
        categories, examples = artifact.examples()
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: gone, since the index was replaced; load it again") from error
    except (KeyError, ValueError, OSError) as error:
        raise ArtifactError(f"{artifact.folder}: the stored examples are unusable; build the index again") from error
    if vectors.shape != (len(examples), encoder.dimensions) or vectors.dtype.kind != "f":
        raise ArtifactError(f"{artifact.folder}: examples and vectors do not match; build the index again")
    found = []
    for start in range(0, len(texts), TOGETHER):
        asked = encoder.encode(texts[start : start + TOGETHER])
        with np.errstate(all="ignore"):
            parts = [asked @ vectors[row : row + CHUNK].T for row in range(0, len(examples), CHUNK)]
        similarities = np.concatenate(parts or [np.zeros((len(asked), 0), np.float32)], axis=1)
        if not np.isfinite(similarities).all():
            raise ArtifactError(f"{artifact.folder}: a stored vector is not finite; build the index again")
        for one in similarities:
            best = np.argsort(-one, kind="stable")[:count]
            found.append([NearestExample(categories[row], examples[row], float(one[row])) for row in best])
    return found


# Location of the artifact: argument, environment, configuration, or built once from the shipped categories.

ENVIRONMENT = "SEMROUTE_INDEX"
WAIT_S = 600.0
"""Longest wait for another process that builds the shipped index, seconds."""

log = logging.getLogger("semroute")


def locate_index(index: Path | str | None, config: Config, env: Mapping[str, str] = os.environ) -> Path | None:
    """Return the artifact folder to open, or None for the shipped categories.

    The argument comes first, then ``SEMROUTE_INDEX``, then the configured folder if it exists.

    The default folder is opened unasked, whoever made it, so an index must be able to do nothing but route: it is data
    (:func:`semroute.router.load.LoadedIndex.open`). The configuration is trusted as a Makefile is: it names where
    queries and keys are sent.
    """
    if index is not None:
        return Path(index)
    named = env.get(ENVIRONMENT)
    if named:
        return Path(named)
    configured = Path(config.index)
    # A configured folder other than the default one is meant: its absence is an error.
    if (configured / MANIFEST).exists() or not config.has_default_index:
        return configured
    return None


def shipped_index(progress: Progress = silent) -> Path:
    """Return the folder of the shipped categories' index.

    It is in the user's cache folder, built there on first use (about 30 s).

    Raises:
        MissingExtraError: it has to be built, and the extra "build" is not installed.
        ArtifactError: the cache folder cannot be written.
    """
    from semroute.data.categories import shipped_folder

    found = built_shipped_index()
    if found is not None:
        return found
    source = shipped_folder()
    folder = _shipped_at(source)
    from semroute.learn.build import build_index

    log.info("building the index of the shipped categories once, in %s", folder)
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            build_index(source, folder, progress=progress)
        except ArtifactBusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        if (folder / MANIFEST).exists():
            return folder


def built_shipped_index() -> Path | None:
    """Find the shipped categories' index; None if it was not built yet."""
    from semroute.data.categories import shipped_folder

    folder = _shipped_at(shipped_folder())
    return folder if (folder / MANIFEST).exists() else None


def _shipped_at(source: Path) -> Path:
    return platformdirs.user_cache_path("semroute") / f"shipped-{__version__}-{_digest(source)}"


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.yaml")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


# Detection of a replaced artifact, and the switch to it without dropping a query.


class Reloader:
    """Background reload of a replaced artifact.

    Looks at the manifest's modification time, at most once per interval, and reloads in a thread of its own.

    Args:
        folder: the artifact's folder.
        every_s: shortest time between two looks, seconds.
        clock: monotonic seconds.
    """

    def __init__(self, folder: Path, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / MANIFEST
        self._every_s = every_s
        self._clock = clock
        self._seen = _stamp(self._path)
        self._next = clock() + every_s
        self._lock = forks.lock()
        self._is_reloading = False
        forks.in_child(self, Reloader._after_fork)

    def look(self, reload: Callable[[], None]) -> threading.Thread | None:
        """Start ``reload`` in a thread if the manifest changed; return the thread."""
        now = self._clock()
        if now < self._next or not self._lock.acquire(blocking=False):
            return None
        try:
            self._next = now + self._every_s
            stamp = _stamp(self._path)
            if stamp is None or stamp == self._seen:
                return None
            self._seen = stamp
        finally:
            self._lock.release()
        self._is_reloading = True
        thread = threading.Thread(target=self._reload, args=(reload,), name="semroute-reload", daemon=True)
        thread.start()
        return thread

    def _reload(self, reload: Callable[[], None]) -> None:
        try:
            reload()
        except SemrouteError as error:
            log.warning("the new index cannot be used, the old one goes on serving: %s", error)
        except Exception:  # any other error of a foreign index must not be lost with this thread
            log.exception("the new index cannot be used, the old one goes on serving")
        finally:
            self._is_reloading = False

    def _after_fork(self) -> None:
        # The thread that was reloading is the parent's: the child has to detect the change again.
        if self._is_reloading:
            self._seen, self._is_reloading = None, False


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino

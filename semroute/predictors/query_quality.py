"""Query classifier: every model's answer quality, before any call.

It stacks and calibrates the heads of :mod:`semroute.predictors.quality_heads`, and estimates the cost of a call. Its
artifact folder and the check of a configuration that names it are here too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from semroute.config import Config, Problem
from semroute.errors import ArtifactError, EncoderError
from semroute.predictors.novelty import Novelty, log_lengths
from semroute.predictors.quality_heads import (
    ArrayHead,
    Arrays,
    ClusterHead,
    LinearHead,
    NeighbourHead,
    QueryHead,
    TreesHead,
    TunedHead,
    calibrated,
    stacked,
)
from semroute.predictors.query_features import FEATURES, QueryInputs
from semroute.storage import MANIFEST, TEXT, TEXTS, WORTH, ArrayFolder
from semroute.text.normalise import normalize
from semroute.text.signals import NO_SIGNALS, SIGNALS, Signals
from semroute.types import Encoder, Matrix

if TYPE_CHECKING:
    from semroute.config import Price


# Expected cost of a call to each model, before the length of the answer is known.

Numbers = NDArray[np.float64]
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Expected cost of a call to each model.

    ``input tokens * scale * input price + output tokens * output price``; or a mean cost where no price is known.

    Input tokens are those of :func:`semroute.catalog.estimate_tokens`, in training as in serving: with different counts
    the same prediction would select another model. Output tokens are the training mean of the model in the task, else
    of the model.

    Attributes:
        models: ``m`` names.
        tasks: ``t`` names.
        price: ``(2, m)`` USD per token of input and output; NaN where it is not known.
        scale: ``(m,)`` billed tokens for each estimated token.
        tokens: ``(1 + t, m)`` mean output tokens, over all tasks first: those with which the formula gives the mean
            cost of the training rows; NaN where they are not known.
        flat: ``(1 + t, m)`` mean USD of a call, over all tasks first.
        efforts: names of ``e`` reasoning efforts; "" is that of a request without any.
        effort_share: ``(e, m)`` output tokens at an effort, divided by the model's mean; 1 where too few answers tell.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    price: Numbers
    scale: Numbers
    tokens: Numbers
    flat: Numbers
    efforts: tuple[str, ...] = ()
    effort_share: Numbers = field(default_factory=lambda: np.zeros((0, 0)))

    ARRAYS: ClassVar[tuple[str, ...]] = ("price", "scale", "tokens", "flat")

    def expected(
        self,
        input_tokens: Sequence[int] | NDArray[np.int64],
        tasks: Sequence[str] | None = None,
        efforts: Sequence[Sequence[str | None]] | None = None,
    ) -> Numbers:
        """Return the expected costs, ``(n, m)`` USD, never below 0.

        Args:
            input_tokens: estimated tokens of ``n`` queries.
            tasks: task of each query; None, and a task without training data, takes the mean over all.
            efforts: effort at which each query asks each model, "" for none; None, and an effort that is not known of
                the model, takes the mean over all.
        """
        row_of_task = {task: row for row, task in enumerate(self.tasks, 1)}
        rows = [row_of_task.get(task, 0) for task in tasks] if tasks is not None else [0] * len(input_tokens)
        tokens = np.asarray(input_tokens, np.float64)[:, None] * self.scale
        # Logged costs below the list price of the input (cached input) make the fitted output tokens negative.
        output = self.tokens[rows]
        output = np.where(output > 0, output * self._shares(efforts), output)
        priced = np.maximum(tokens * self.price[0] + output * self.price[1], 0.0)
        return np.where(np.isfinite(priced), priced, self.flat[rows])

    def knows_effort(self, model: str, effort: str | None) -> bool:
        """Return True if a model's cost is expected by effort, not by its mean."""
        known = effort in self.efforts and model in self.models
        return known and self.effort_share[self.efforts.index(effort or ""), self.models.index(model)] != 1.0

    def _shares(self, efforts: Sequence[Sequence[str | None]] | None) -> Numbers | float:
        """Return the ``(n, m)`` output tokens at efforts, divided by the means."""
        if not self.efforts or efforts is None:
            return 1.0
        numbers = {effort: number for number, effort in enumerate(self.efforts)}
        shares = np.vstack([self.effort_share, np.ones(len(self.models))])
        rows = [[numbers.get(effort, len(numbers)) if effort is not None else -1 for effort in row] for row in efforts]
        return np.asarray(shares[np.array(rows, np.int64).reshape(len(efforts), -1), np.arange(len(self.models))])

    def with_prices(self, prices: Mapping[str, Price]) -> CallCosts:
        """Return a copy with other prices.

        Models that ``prices`` does not name keep theirs.
        """
        price = self.price.copy()
        for column, model in enumerate(self.models):
            if model in prices:
                price[:, column] = prices[model].input / _MILLION, prices[model].output / _MILLION
        return replace(self, price=price)

    def arrays(self) -> Arrays:
        """Return the arrays, by name."""
        found = {name: getattr(self, name) for name in self.ARRAYS}
        return found | ({"effort_share": self.effort_share} if self.efforts else {})


# Training queries as hashes of 8 bytes each, to recognise them later.
#
# The hashes do not stop anyone from testing whether a query that they know was among them.

Hashes = NDArray[np.uint64]


def hashes(queries: Iterable[str]) -> Hashes:
    """Return the ``(n,)`` uint64 hashes of queries.

    A hash is the first 64 bits of the SHA-256 of the normalised text.

    Of a million unseen texts, 3e-9 are expected to collide with one of 50,000 seen ones.
    """
    digests = (hashlib.sha256(normalize(query).encode("utf-8", "surrogatepass")).digest()[:8] for query in queries)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def seen_queries(queries: Iterable[str]) -> Hashes:
    """Return the hashes of training queries, unique and sorted.

    Sorting hides the order of the rows.
    """
    return np.unique(hashes(queries))


# Inference: heads, their weights, and the calibration of each model; for queries of a new kind, others.


@dataclass(frozen=True)
class QueryClassifier:
    """Predictor of every model's answer quality, before any call.

    Implements :class:`~semroute.types.QualityPredictor`.

    ``prior + sum of weight * (head - prior)`` over the heads, then ``1 / (1 + exp(-(slope * logit + shift)))``.

    Attributes:
        models: ``m`` names.
        prior: ``(m,)`` mean quality of the training rows.
        heads: predictors over the same inputs.
        weights: ``(h,)``, at least 0.
        slope, shift: ``(m,)`` of the calibration (Platt, "Probabilistic outputs for support vector machines", 1999).
        categories: ``(c, d)`` unit rows whose similarity is a feature; may have no rows.
        encoder: fingerprint of the encoder whose vectors it was trained on.
        costs: expected costs of calls.
        value: default worth of +1.0 of quality, USD; infinity where only quality counts.
        seen: ``(s,)`` hashes of the training queries; None in older artifacts.
        novelty: distance from the training queries, and the stack for distant ones; None in older artifacts, and where
            no head uses vectors.
        signals: names of the conversation's signals that are features; empty in older artifacts, and where the training
            rows had none.
    """

    models: tuple[str, ...]
    prior: NDArray[np.float64]
    heads: tuple[QueryHead, ...]
    weights: NDArray[np.float64]
    slope: NDArray[np.float64]
    shift: NDArray[np.float64]
    categories: Matrix
    encoder: str
    costs: CallCosts
    value: float = math.inf
    seen: Hashes | None = None
    novelty: Novelty | None = None
    signals: tuple[str, ...] = ()

    @property
    def needs_vectors(self) -> bool:
        """True if any head uses vectors; otherwise :meth:`predict` ignores them."""
        return any(head.needs_vectors for head in self.heads)

    @property
    def needs_signals(self) -> bool:
        """True if the signals of a conversation are among the features of a head."""
        return bool(self.signals) and self.needs_vectors

    def has_seen(self, texts: Sequence[str]) -> NDArray[np.bool_] | None:
        """Return a ``(n,)`` mask of the texts that it was trained on.

        Case and whitespace are ignored. None where the training queries are not known.
        """
        return None if self.seen is None else np.isin(hashes(texts), self.seen)

    def predict(self, texts: Sequence[str], vectors: Matrix, signals: Sequence[Signals] | None = None) -> Matrix:
        """Predict ``(n, m)`` float32 quality in 0..1.

        From ``n`` texts, their ``(n, d)`` unit vectors, and the signals of their conversations.
        """
        return self.assess(texts, vectors, signals)[0]

    def assess(
        self, texts: Sequence[str], vectors: Matrix, signals: Sequence[Signals] | None = None
    ) -> tuple[Matrix, NDArray[np.bool_] | None]:
        """Predict as :meth:`predict` does, and mark novel queries.

        Args:
            texts: ``n`` texts.
            vectors: ``(n, d)`` unit rows.
            signals: of the conversation of each text; None for single turns without tools. Ignored by a classifier that
                was trained without.

        Returns:
            ``(n, m)`` float32 quality, and a ``(n,)`` mask; None where distances are not known.
        """
        if not self.needs_vectors:
            return self._assess(QueryInputs.of_texts(texts))
        known = signals if signals is not None else [NO_SIGNALS] * len(texts)
        return self._assess(QueryInputs.of(texts, vectors, self.categories, known if self.needs_signals else None))

    def predict_inputs(self, inputs: QueryInputs) -> Matrix:
        """Predict quality from computed inputs.

        They include the similarity to the categories of this classifier, and the signals where it takes them.
        """
        return self._assess(inputs)[0]

    def _assess(self, inputs: QueryInputs) -> tuple[Matrix, NDArray[np.bool_] | None]:
        predictions = [head.predict(inputs) for head in self.heads]
        near = calibrated(stacked(predictions, self.prior, self.weights), self.slope, self.shift)
        if self.novelty is None:
            return near.astype(np.float32), None
        distances = self.novelty.distances(inputs.vectors)
        unseen = self.novelty.unseen.predict(predictions, self.prior, log_lengths(inputs.queries))
        share = self.novelty.share(distances)[:, None]
        return ((1.0 - share) * near + share * unseen).astype(np.float32), distances > self.novelty.limit


# Artifact folder.

FOLDER = ArrayFolder(
    format="semroute-query-classifier",
    version=2,
    what="classifier of queries",
    command="semroute train OUTCOMES --out",
    keys={"models": TEXTS, "features": TEXTS, "heads": TEXTS, "encoder": TEXT, "tasks": TEXTS, "value": WORTH},
)
KINDS: Mapping[str, type[ArrayHead]] = {head.kind: head for head in (LinearHead, NeighbourHead, ClusterHead, TreesHead)}
TRIAL_TEXTS = ("?", "How many eggs are in a dozen?", "def add(a, b): return a + b")
_OWN = ("prior", "weights", "slope", "shift")
_NOT_FINITE = (("neighbours", "quality"), ("trees", "threshold"))
"""Arrays that may hold missing or infinite numbers."""


def write_query_classifier(classifier: QueryClassifier, folder: Path, *, report: Mapping[str, Any]) -> None:
    """Write a classifier; an existing one is replaced atomically.

    Args:
        classifier: the trained classifier.
        folder: created if missing.
        report: training data and metrics; JSON-ready.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {name: getattr(classifier, name) for name in _OWN}
    arrays["categories"] = classifier.categories
    arrays |= {f"costs.{name}": values for name, values in classifier.costs.arrays().items()}
    if classifier.seen is not None:
        arrays["seen"] = classifier.seen
    if classifier.novelty is not None:
        arrays |= classifier.novelty.arrays()
    for position, head in enumerate(classifier.heads):
        arrays |= {f"{position}.{name}": values for name, values in head.arrays().items()}
    manifest = {
        "models": list(classifier.models), "heads": [head.kind for head in classifier.heads],
        "encoder": classifier.encoder, "tasks": list(classifier.costs.tasks), "features": list(FEATURES),
        **({"signals": list(classifier.signals)} if classifier.signals else {}),
        **({"efforts": list(classifier.costs.efforts)} if classifier.costs.efforts else {}),
        "value": classifier.value if math.isfinite(classifier.value) else None, **report,
    }  # fmt: skip
    FOLDER.write(folder, manifest, arrays, _files(classifier))


def check_classifier_folder(folder: Path) -> None:
    """Raise if a folder cannot be written to, before training starts.

    Raises:
        InputError: it holds something else, or cannot be written.
    """
    FOLDER.check(folder)


@np.errstate(all="ignore")  # out-of-range numbers are detected in the result
def read_query_classifier(folder: Path) -> QueryClassifier:
    """Read and check what :func:`write_query_classifier` wrote.

    Raises:
        ArtifactError: it is missing, damaged, foreign, or of another version; the message names the remedy.
    """
    stored = FOLDER.read(folder)
    manifest, arrays = stored.manifest, stored.arrays
    if tuple(manifest["features"]) != FEATURES:
        raise ArtifactError(f"{folder / MANIFEST}: trained with other features than this version's; train it again")
    # Older artifacts have no such key.
    if (signals := manifest.get("signals", [])) not in ([], list(SIGNALS)):
        raise ArtifactError(f"{folder / MANIFEST}: trained with other signals than this version's; train it again")
    try:
        models, tasks = tuple(manifest["models"]), tuple(manifest["tasks"])
        heads = tuple(_head(kind, position, arrays, stored.files) for position, kind in enumerate(manifest["heads"]))
        parameters = {name: np.asarray(arrays[name], np.float64) for name in _OWN}
        if "seen" in arrays and arrays["seen"].dtype.kind != "u":
            raise ValueError("the training queries are not a list of hashes")
        if not all(values.ndim == 1 and np.isfinite(values).all() for values in parameters.values()):
            raise ValueError("the calibration is not of finite numbers")
        costs: dict[str, Any] = {name: np.asarray(arrays[f"costs.{name}"], np.float64) for name in CallCosts.ARRAYS}
        widths = {len(models), *(len(parameters[name]) for name in _OWN if name != "weights")}
        widths |= {values.shape[-1] for values in costs.values()}
        heights = {1 + len(tasks), len(costs["tokens"]), len(costs["flat"])}
        if len(widths) != 1 or len(heights) != 1 or len(parameters["weights"]) != len(heads):
            raise ValueError("arrays of different widths")
        categories = np.asarray(arrays["categories"], np.float32)
        novelty = Novelty.from_arrays(arrays, heads=len(heads), models=len(models), dimensions=categories.shape[-1])
        classifier = QueryClassifier(
            models=models,
            heads=heads,
            categories=categories,
            encoder=manifest["encoder"],
            costs=CallCosts(models, tasks, **costs, **_efforts(manifest, arrays, len(models))),
            value=math.inf if manifest["value"] is None else float(manifest["value"]),
            # Older artifacts have no hashes.
            seen=np.asarray(arrays["seen"], np.uint64) if "seen" in arrays else None,
            novelty=novelty,
            signals=tuple(signals),
            **parameters,
        )
        _try_classifier(classifier)
        return classifier
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError, AssertionError, EncoderError) as error:
        raise ArtifactError(f"{folder}: not the arrays of a classifier of queries ({error}); train it again") from error
    except MemoryError as error:
        raise ArtifactError(f"{folder}: the classifier needs more memory than there is; train it again") from error


def _efforts(manifest: Mapping[str, Any], arrays: Arrays, models: int) -> dict[str, Any]:
    """Return the efforts of costs and their shares; none in older artifacts.

    Raises:
        ValueError: they do not fit together.
    """
    names = manifest.get("efforts", [])
    if not names:
        return {}
    shares = np.asarray(arrays["costs.effort_share"], np.float64)
    is_valid = shares.shape == (len(names), models) and np.isfinite(shares).all() and (shares >= 0).all()
    if not is_valid or not all(isinstance(name, str) for name in names):
        raise ValueError("the efforts and their shares do not fit together")
    return {"efforts": tuple(names), "effort_share": shares}


def check_encoder(classifier: QueryClassifier, encoder: Encoder, folder: Path) -> None:
    """Raise if a classifier needs the vectors of another encoder.

    Raises:
        ArtifactError: it does.
    """
    fits = encoder.fingerprint == classifier.encoder and encoder.dimensions == classifier.categories.shape[1]
    if classifier.needs_vectors and not fits:
        raise ArtifactError(
            f"{folder}: trained on vectors of an encoder other than {encoder.name}; name the index that it was trained "
            "with (--index), or train it again with this index"
        )


def _files(classifier: QueryClassifier) -> dict[str, Path]:
    """Return the files of the tuned encoder, of which there is at most one."""
    tuned = [head for head in classifier.heads if isinstance(head, TunedHead)]
    return {"encoder": tuned[0].model_path, "tokenizer": tuned[0].tokenizer_path} if tuned else {}


def _head(kind: str, position: int, arrays: Mapping[str, NDArray[Any]], files: Mapping[str, Path]) -> QueryHead:
    prefix = f"{position}."
    head_arrays = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    if kind == TunedHead.kind:
        return TunedHead.open(files["encoder"], files["tokenizer"], head_arrays)
    for name, values in head_arrays.items():
        if (kind, name) not in _NOT_FINITE and values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name} of the head {kind} holds a number that is not finite")
    return KINDS[kind].from_arrays(head_arrays)


def _try_classifier(classifier: QueryClassifier) -> None:
    """Predict for sample texts and vectors, singly and in a batch.

    As a serving process would.

    Raises:
        ValueError: the result is not a quality for each model, or a tree compares a column that does not exist.
    """
    if classifier.categories.ndim != 2 or not np.isfinite(classifier.categories).all():
        raise ValueError("the categories are not rows of numbers")
    count, width = classifier.categories.shape
    for head in classifier.heads:
        columns = len(FEATURES) + count + len(classifier.signals)
        if isinstance(head, TreesHead) and head.columns > columns + head.directions.shape[1]:
            raise ValueError("a tree compares a column that does not exist")
    random_vectors = np.random.default_rng(0).standard_normal((len(TRIAL_TEXTS), width))
    vectors: Matrix = random_vectors.astype(np.float32)
    if width:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for rows in (slice(0, 1), slice(0, len(TRIAL_TEXTS))):
        texts = TRIAL_TEXTS[rows]
        quality = classifier.predict(texts, vectors[rows])
        cost = classifier.costs.expected([len(text) for text in texts])
        if not quality.shape == cost.shape == (len(texts), len(classifier.models)) or np.isnan(quality).any():
            raise ValueError("it does not predict a quality for each model")


# Configuration check.


def check_query_classifier(config: Config) -> list[Problem]:
    """Return the problems of the configured query classifier.

    An error where it cannot be read or knows none of the candidate models; a warning where no strategy uses it.
    """
    section = config.classifier
    if section.folder is None:
        return []
    if "classifier" not in config.strategies:
        return [
            Problem("warning", "classifier", 'it is not used: strategies does not name "classifier"', "add it there")
        ]
    try:
        known_models = read_query_classifier(section.folder).models
    except ArtifactError as error:
        return [Problem("error", "classifier.folder", str(error))]
    deployed = [deployment.model for deployment in config.deployments]
    candidates = [member for name in section.candidates or deployed for member in config.members(name)]
    if candidates and not set(candidates) & set(known_models):
        names = ", ".join(dict.fromkeys(candidates))
        message = f"the classifier knows none of {names}; it knows {', '.join(known_models)}"
        return [Problem("error", "classifier.folder", message, "train it on outcomes of these models")]
    return []

"""A classifier of answers: the probability that an answer to a query is acceptable, from the two texts alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from semroute.config import Config, Problem
from semroute.errors import ArtifactError, EncoderError
from semroute.predictors.answer_quality import AnswerClassifier, read_classifier, write_classifier
from semroute.predictors.quality_heads import (
    ArrayHead,
    Arrays,
    ClusterHead,
    LinearHead,
    NeighbourHead,
    Quality,
    QueryHead,
    TreesHead,
    TunedHead,
)
from semroute.predictors.query_features import FEATURES, QueryInputs
from semroute.storage import MANIFEST, TEXT, TEXTS, WORTH, ArrayFolder
from semroute.text.normalise import normalize
from semroute.types import Encoder, Matrix

if TYPE_CHECKING:
    from semroute.config import Price


__all__ = ["AnswerClassifier", "read_classifier", "write_classifier"]


# What a call of each model is expected to cost, before anybody knows how long the answer will be.

Numbers = NDArray[np.float64]
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class CallCosts:
    """``input tokens * scale * input price + output tokens * output price``; or a mean cost where no price is known.

    Input tokens are those of :func:`semroute.catalog.estimate_tokens`, in training as in serving: counted otherwise in
    one than in the other, the same prediction would lead to another model. The output is the training mean of the
    model in the task, else of the model.

    Attributes:
        models: ``m`` names.
        tasks: ``t`` names.
        price: ``(2, m)`` USD per token of input and output; NaN where it is not known.
        scale: ``(m,)`` tokens that the model is billed for, for each that is estimated.
        tokens: ``(1 + t, m)`` mean output tokens, over all tasks first: those with which the formula gives the mean
            cost of the training rows; NaN where they are not known.
        flat: ``(1 + t, m)`` mean USD of a call, over all tasks first.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    price: Numbers
    scale: Numbers
    tokens: Numbers
    flat: Numbers

    ARRAYS: ClassVar[tuple[str, ...]] = ("price", "scale", "tokens", "flat")

    def expected(self, input_tokens: Sequence[int] | NDArray[np.int64], tasks: Sequence[str] | None = None) -> Numbers:
        """``(n, m)`` USD, never below 0.

        Args:
            input_tokens: of ``n`` queries, as estimated.
            tasks: of each; None, and a task that was not trained on, takes the mean over all.
        """
        places = {task: row for row, task in enumerate(self.tasks, 1)}
        rows = [places.get(task, 0) for task in tasks] if tasks is not None else [0] * len(input_tokens)
        asked = np.asarray(input_tokens, np.float64)[:, None] * self.scale
        # Told costs below what input costs by the list (cached input) leave less than nothing for the output.
        priced = np.maximum(asked * self.price[0] + self.tokens[rows] * self.price[1], 0.0)
        return np.where(np.isfinite(priced), priced, self.flat[rows])

    def with_prices(self, prices: Mapping[str, Price]) -> CallCosts:
        """The same with other prices; models that ``prices`` does not name keep theirs."""
        price = self.price.copy()
        for column, model in enumerate(self.models):
            if model in prices:
                price[:, column] = prices[model].input / _MILLION, prices[model].output / _MILLION
        return replace(self, price=price)

    def arrays(self) -> Arrays:
        """The numbers, by name."""
        return {name: getattr(self, name) for name in self.ARRAYS}


# The queries that a classifier was trained on, as hashes: enough to tell them again, and 8 bytes each.
#
# A hash keeps nobody from trying whether a query that he knows was among them.

Hashes = NDArray[np.uint64]


def hashes(queries: Iterable[str]) -> Hashes:
    """``(n,)`` uint64: the first 64 bits of the SHA-256 of each normalised text.

    Of a million texts that were not seen, among 50,000 that were, 3e-9 are expected to be taken for seen.
    """
    digests = (hashlib.sha256(normalize(query).encode("utf-8", "surrogatepass")).digest()[:8] for query in queries)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def seen_queries(queries: Iterable[str]) -> Hashes:
    """The hashes of training queries, each once and in order, so that nothing is told of the rows."""
    return np.unique(hashes(queries))


# The classifier of queries as it serves: heads, their weights, and the calibration of each model.

SURE = 0.005
"""Raw predictions are cut to this much from 0 and 1 before they are calibrated."""


@dataclass(frozen=True)
class QueryClassifier:
    """Predicts the quality of every model's answer before any is asked
    (a :class:`~semroute.types.QualityPredictor`).

    ``prior + sum of weight * (head - prior)`` over the heads, then ``1 / (1 + exp(-(slope * logit + shift)))``.

    Attributes:
        models: ``m`` names.
        prior: ``(m,)`` mean quality of the training rows.
        heads: what predicts; all of them see the same inputs.
        weights: ``(h,)``, at least 0.
        slope, shift: ``(m,)`` of the calibration (Platt, "Probabilistic outputs for support vector machines", 1999).
        categories: ``(c, d)`` unit rows whose similarity is a feature; may have no rows.
        encoder: fingerprint of the encoder whose vectors it was trained on.
        costs: what calls are expected to cost.
        value: USD that +1.0 of quality is worth unless somebody says otherwise; infinity where only quality counts.
        seen: ``(s,)`` hashes of the queries that it was trained on; None where an older artifact does not tell.
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

    @property
    def needs_vectors(self) -> bool:
        """Whether any head looks at vectors; else those that :meth:`predict` is given count for nothing."""
        return any(head.needs_vectors for head in self.heads)

    def has_seen(self, texts: Sequence[str]) -> NDArray[np.bool_] | None:
        """``(n,)`` whether it was trained on a text, but for case and whitespace; None where that is not known."""
        return None if self.seen is None else np.isin(hashes(texts), self.seen)

    def predict(self, texts: Sequence[str], vectors: Matrix) -> Matrix:
        """``(n, m)`` float32 in 0..1 from ``n`` texts and their ``(n, d)`` unit vectors."""
        needed = self.needs_vectors
        return self.predict_inputs(
            QueryInputs.of(texts, vectors, self.categories) if needed else QueryInputs.of_texts(texts)
        )

    def predict_inputs(self, inputs: QueryInputs) -> Matrix:
        """The same from inputs that are there already, with the similarity to these categories."""
        raw = stacked([head.predict(inputs) for head in self.heads], self.prior, self.weights)
        return calibrated(raw, self.slope, self.shift).astype(np.float32)


def stacked(predictions: Sequence[Quality], prior: NDArray[np.float64], weights: NDArray[np.float64]) -> Quality:
    """``(n, m)`` the heads' predictions weighed, as distances from the prior."""
    found = np.zeros_like(predictions[0])
    for weight, predicted in zip(weights.tolist(), predictions, strict=True):
        found += weight * (predicted - prior)
    return found + prior


def logits(quality: Quality) -> Quality:
    """``log(p / (1 - p))`` of predictions, which are first cut to ``SURE .. 1 - SURE``."""
    sure = np.clip(quality, SURE, 1.0 - SURE)
    return np.asarray(np.log(sure / (1.0 - sure)))


def calibrated(raw: Quality, slope: NDArray[np.float64], shift: NDArray[np.float64]) -> Quality:
    """``(n, m)`` probabilities in 0..1."""
    return np.asarray(1.0 / (1.0 + np.exp(-(slope * logits(raw) + shift))))


# A classifier of queries as a folder.

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
"""Arrays in which a number may not be known, or be out of every value's reach."""


def write_query_classifier(classifier: QueryClassifier, folder: Path, *, report: Mapping[str, Any]) -> None:
    """Write a classifier; one that is there already is replaced in one step.

    Args:
        classifier: what was trained.
        folder: made where it is missing.
        report: what it was trained on, and how good it is; JSON-ready.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {name: getattr(classifier, name) for name in _OWN}
    arrays["categories"] = classifier.categories
    arrays |= {f"costs.{name}": values for name, values in classifier.costs.arrays().items()}
    if classifier.seen is not None:
        arrays["seen"] = classifier.seen
    for place, head in enumerate(classifier.heads):
        arrays |= {f"{place}.{name}": values for name, values in head.arrays().items()}
    manifest = {
        "models": list(classifier.models), "heads": [head.kind for head in classifier.heads],
        "encoder": classifier.encoder, "tasks": list(classifier.costs.tasks), "features": list(FEATURES),
        "value": classifier.value if math.isfinite(classifier.value) else None, **report,
    }  # fmt: skip
    FOLDER.write(folder, manifest, arrays, _files(classifier))


def check_classifier_folder(folder: Path) -> None:
    """Refuse a folder that could not be written to, before anything is trained.

    Raises:
        InputError: it holds something else, or cannot be written.
    """
    FOLDER.check(folder)


@np.errstate(all="ignore")  # numbers that are out of range are told by what comes out
def read_query_classifier(folder: Path) -> QueryClassifier:
    """Read what :func:`write_query_classifier` wrote, and check that it is whole.

    Raises:
        ArtifactError: it is missing, damaged, foreign, or of another version; the message says what to do.
    """
    stored = FOLDER.read(folder)
    manifest, arrays = stored.manifest, stored.arrays
    if tuple(manifest["features"]) != FEATURES:
        raise ArtifactError(f"{folder / MANIFEST}: trained with other features than this version's; train it again")
    try:
        models, tasks = tuple(manifest["models"]), tuple(manifest["tasks"])
        heads = tuple(_head(kind, place, arrays, stored.files) for place, kind in enumerate(manifest["heads"]))
        own = {name: np.asarray(arrays[name], np.float64) for name in _OWN}
        if "seen" in arrays and arrays["seen"].dtype.kind != "u":
            raise ValueError("what it was trained on is no list of hashes")
        if not all(values.ndim == 1 and np.isfinite(values).all() for values in own.values()):
            raise ValueError("the calibration is not of finite numbers")
        costs = {name: np.asarray(arrays[f"costs.{name}"], np.float64) for name in CallCosts.ARRAYS}
        widths = {len(models), *(len(own[name]) for name in _OWN if name != "weights")}
        widths |= {values.shape[-1] for values in costs.values()}
        heights = {1 + len(tasks), len(costs["tokens"]), len(costs["flat"])}
        if len(widths) != 1 or len(heights) != 1 or len(own["weights"]) != len(heads):
            raise ValueError("arrays of different widths")
        classifier = QueryClassifier(
            models=models,
            heads=heads,
            categories=np.asarray(arrays["categories"], np.float32),
            encoder=manifest["encoder"],
            costs=CallCosts(models, tasks, **costs),
            value=math.inf if manifest["value"] is None else float(manifest["value"]),
            # Artifacts from before it was kept do not tell.
            seen=np.asarray(arrays["seen"], np.uint64) if "seen" in arrays else None,
            **own,
        )
        _try_classifier(classifier)
        return classifier
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError, AssertionError, EncoderError) as error:
        raise ArtifactError(f"{folder}: not the arrays of a classifier of queries ({error}); train it again") from error
    except MemoryError as error:
        raise ArtifactError(f"{folder}: the classifier needs more memory than there is; train it again") from error


def check_encoder(classifier: QueryClassifier, encoder: Encoder, folder: Path) -> None:
    """Refuse a classifier that looks at the vectors of another encoder.

    Raises:
        ArtifactError: it was.
    """
    fits = encoder.fingerprint == classifier.encoder and encoder.dimensions == classifier.categories.shape[1]
    if classifier.needs_vectors and not fits:
        raise ArtifactError(
            f"{folder}: trained on vectors of another encoder than {encoder.name}; name the index that it was trained "
            "with (--index), or train it again with this one"
        )


def _files(classifier: QueryClassifier) -> dict[str, Path]:
    """Those of the tuned encoder, of which there is one at most."""
    tuned = [head for head in classifier.heads if isinstance(head, TunedHead)]
    return {"encoder": tuned[0].model_path, "tokenizer": tuned[0].tokenizer_path} if tuned else {}


def _head(kind: str, place: int, arrays: Mapping[str, NDArray[Any]], files: Mapping[str, Path]) -> QueryHead:
    prefix = f"{place}."
    own = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    if kind == TunedHead.kind:
        return TunedHead.open(files["encoder"], files["tokenizer"], own)
    for name, values in own.items():
        if (kind, name) not in _NOT_FINITE and values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name} of the head {kind} holds a number that is not finite")
    return KINDS[kind].from_arrays(own)


def _try_classifier(classifier: QueryClassifier) -> None:
    """Predict for some texts and vectors, alone and together, as a process does that serves.

    Raises:
        ValueError: what comes out are no qualities of all models, or a tree asks about a column that there is not.
    """
    if classifier.categories.ndim != 2 or not np.isfinite(classifier.categories).all():
        raise ValueError("the categories are no rows of numbers")
    count, width = classifier.categories.shape
    for head in classifier.heads:
        if isinstance(head, TreesHead) and head.columns > len(FEATURES) + count + head.directions.shape[1]:
            raise ValueError("a tree asks about a column that there is not")
    drawn = np.random.default_rng(0).standard_normal((len(TRIAL_TEXTS), width))
    vectors: Matrix = drawn.astype(np.float32)
    if width:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for rows in (slice(0, 1), slice(0, len(TRIAL_TEXTS))):
        texts = TRIAL_TEXTS[rows]
        quality = classifier.predict(texts, vectors[rows])
        cost = classifier.costs.expected([len(text) for text in texts])
        if not quality.shape == cost.shape == (len(texts), len(classifier.models)) or np.isnan(quality).any():
            raise ValueError("it predicts no quality for each model")


# A classifier of queries: how good each model's answer will be, predicted before any model is asked.

__all__ = [
    "QueryClassifier",
    "check_classifier_folder",
    "check_encoder",
    "read_query_classifier",
    "write_query_classifier",
]


# Whether the classifier of queries that a configuration names is there.


def check_query_classifier(config: Config) -> list[Problem]:
    """An error where it cannot be read or knows no model that it could choose; a warning where nobody asks it."""
    section = config.classifier
    if section.folder is None:
        return []
    if "classifier" not in config.strategies:
        return [
            Problem("warning", "classifier", 'it is not asked: strategies does not name "classifier"', "add it there")
        ]
    try:
        known = read_query_classifier(section.folder).models
    except ArtifactError as error:
        return [Problem("error", "classifier.folder", str(error))]
    placed = [deployment.model for deployment in config.deployments]
    wanted = [member for name in section.candidates or placed for member in config.members(name)]
    if wanted and not set(wanted) & set(known):
        names = ", ".join(dict.fromkeys(wanted))
        message = f"the classifier knows none of {names}; it knows {', '.join(known)}"
        return [Problem("error", "classifier.folder", message, "train it on outcomes of these models")]
    return []

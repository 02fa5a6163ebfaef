"""A classifier of queries as a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.errors import ArtifactError, EncoderError
from semroute.heads.folder import MANIFEST, ArrayFolder
from semroute.heads.kinds import TEXT, TEXTS, WORTH
from semroute.heads.queries.classifier import QueryClassifier
from semroute.heads.queries.clusters import ClusterHead
from semroute.heads.queries.costs import CallCosts
from semroute.heads.queries.features import FEATURES
from semroute.heads.queries.head import ArrayHead, QueryHead
from semroute.heads.queries.linear import LinearHead
from semroute.heads.queries.neighbours import NeighbourHead
from semroute.heads.queries.trees import TreesHead
from semroute.heads.queries.tuned import TunedHead
from semroute.types import Encoder, Matrix

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

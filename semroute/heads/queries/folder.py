"""A classifier of queries as a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.errors import ArtifactError
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
from semroute.types import Encoder

FOLDER = ArrayFolder(
    format="semroute-query-classifier",
    version=2,
    what="classifier of queries",
    command="semroute train OUTCOMES --out",
    keys={"models": TEXTS, "features": TEXTS, "heads": TEXTS, "encoder": TEXT, "tasks": TEXTS, "value": WORTH},
)
KINDS: Mapping[str, type[ArrayHead]] = {head.kind: head for head in (LinearHead, NeighbourHead, ClusterHead, TreesHead)}
_OWN = ("prior", "weights", "slope", "shift")


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
        costs = {name: np.asarray(arrays[f"costs.{name}"], np.float64) for name in CallCosts.ARRAYS}
        widths = {len(models), *(len(own[name]) for name in _OWN if name != "weights")}
        widths |= {values.shape[-1] for values in costs.values()}
        heights = {1 + len(tasks), len(costs["tokens"]), len(costs["flat"])}
        if len(widths) != 1 or len(heights) != 1 or len(own["weights"]) != len(heads):
            raise ValueError("arrays of different widths")
        return QueryClassifier(
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
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ArtifactError(f"{folder}: not the arrays of a classifier of queries; train it again") from error


def check_encoder(classifier: QueryClassifier, encoder: Encoder, folder: Path) -> None:
    """Refuse a classifier that looks at the vectors of another encoder.

    Raises:
        ArtifactError: it was.
    """
    if classifier.needs_vectors and encoder.fingerprint != classifier.encoder:
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
    return KINDS[kind].from_arrays(own)

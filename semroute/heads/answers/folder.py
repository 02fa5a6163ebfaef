"""A classifier of answers as a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from semroute.errors import ArtifactError
from semroute.heads.answers.classifier import AnswerClassifier, feature_names
from semroute.heads.answers.words import BUCKETS
from semroute.heads.folder import MANIFEST, ArrayFolder
from semroute.heads.kinds import NUMBER, SHARE, TEXTS

FOLDER = ArrayFolder(
    format="semroute-answer-classifier",
    version=1,
    what="classifier of answers",
    command="semroute train-checks OUTCOMES --out",
    keys={"blocks": TEXTS, "features": TEXTS, "bias": NUMBER, "threshold": SHARE},
)
_ARRAYS = ("mean", "scale", "weights", "answer_words", "query_words")


def write_classifier(classifier: AnswerClassifier, folder: Path, *, report: Mapping[str, Any]) -> None:
    """Write a classifier; one that is there already is replaced in one step.

    Args:
        classifier: what was trained.
        folder: made where it is missing.
        report: what it was trained on, and how good it is; JSON-ready.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    manifest = {
        "blocks": list(classifier.blocks), "features": list(feature_names(classifier.blocks)), "buckets": BUCKETS,
        "bias": classifier.bias, "threshold": classifier.threshold, **report,
    }  # fmt: skip
    FOLDER.write(folder, manifest, {name: getattr(classifier, name) for name in _ARRAYS})


@np.errstate(all="ignore")  # numbers that are out of range are told by what comes out
def read_classifier(folder: Path) -> AnswerClassifier:
    """Read what :func:`write_classifier` wrote, and check that it is whole.

    Raises:
        ArtifactError: it is missing, damaged, foreign, or of another version; the message says what to do.
    """
    stored = FOLDER.read(folder)
    manifest, arrays = stored.manifest, stored.arrays
    try:
        classifier = AnswerClassifier(
            tuple(manifest["blocks"]),
            bias=float(manifest["bias"]),
            threshold=float(manifest["threshold"]),
            **{name: np.asarray(arrays[name], np.float64) for name in _ARRAYS},
        )
        shapes = {name: getattr(classifier, name).shape for name in _ARRAYS}
        if not all(np.isfinite(getattr(classifier, name)).all() for name in _ARRAYS) or not classifier.scale.all():
            raise ValueError("a number is not finite, or a scale is 0")
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactError(f"{folder}: not the arrays of a classifier of answers ({error}); train it again") from error
    names = feature_names(classifier.blocks)
    wanted = {name: (BUCKETS,) if name.endswith("words") else (len(names),) for name in _ARRAYS}
    if tuple(manifest["features"]) != names or shapes != wanted:
        raise ArtifactError(f"{folder / MANIFEST}: trained with other features than this version's; train it again")
    return classifier

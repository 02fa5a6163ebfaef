"""A classifier as a folder: ``classifier.json`` for people and checks, and the arrays without pickle."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from semroute.errors import ArtifactError, InputError
from semroute.heads.answers.classifier import AnswerClassifier, feature_names
from semroute.heads.answers.words import BUCKETS
from semroute.whole import whole_file

FORMAT = "semroute-answer-classifier"
VERSION = 1
MANIFEST = "classifier.json"
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: holds other files; name a new folder")
        stream = io.BytesIO()
        np.savez(stream, **{name: getattr(classifier, name) for name in _ARRAYS})
        content = stream.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        arrays = folder / f"weights-{digest[:16]}.npz"
        manifest = {
            "format": FORMAT, "version": VERSION, "blocks": list(classifier.blocks),
            "features": list(feature_names(classifier.blocks)), "buckets": BUCKETS, "bias": classifier.bias,
            "threshold": classifier.threshold, "arrays": {"file": arrays.name, "sha256": digest}, **report,
        }  # fmt: skip
        with whole_file(arrays) as part:
            part.write_bytes(content)
        # The manifest is what a reader begins with: until it is replaced, the old arrays are the ones that count.
        with whole_file(folder / MANIFEST) as part:
            part.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for old in folder.glob("weights-*.npz"):
            if old != arrays:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the classifier cannot be written ({error.strerror or error})") from error


def read_classifier(folder: Path) -> AnswerClassifier:
    """Read what :func:`write_classifier` wrote, and check that it is whole.

    Raises:
        ArtifactError: it is missing, damaged, foreign, or of another version; the message says what to do.
    """
    manifest = read_manifest(folder)
    path = folder / str(manifest["arrays"]["file"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); train it again") from error
    if hashlib.sha256(content).hexdigest() != manifest["arrays"]["sha256"]:
        raise ArtifactError(f"{path}: damaged, its SHA-256 is not the one in {MANIFEST}; train it again")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name], np.float64) for name in _ARRAYS}
        classifier = AnswerClassifier(
            tuple(manifest["blocks"]), bias=float(manifest["bias"]), threshold=float(manifest["threshold"]), **found
        )
    except (KeyError, ValueError, TypeError, BadZipFile, EOFError) as error:
        raise ArtifactError(f"{path}: not the arrays of a classifier of answers; train it again") from error
    names = feature_names(classifier.blocks)
    sizes = {len(names)} == {len(found[name]) for name in ("mean", "scale", "weights")}
    if tuple(manifest["features"]) != names or not sizes or len(found["answer_words"]) != BUCKETS:
        raise ArtifactError(f"{folder}: trained with other features than this version's; train it again")
    return classifier


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked for kind and version.

    Raises:
        ArtifactError: there is none, or it is not one of ours.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        message = "no classifier of answers is there; make one with: semroute train-checks OUTCOMES --out"
        raise ArtifactError(f"{folder}: {message} {folder}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); train it again") from error
    wanted = {"blocks", "features", "bias", "threshold", "arrays"}
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not wanted <= set(manifest):
        raise ArtifactError(f"{path}: not the manifest of a classifier of answers")
    if manifest.get("version") != VERSION:
        raise ArtifactError(f"{path}: version {manifest.get('version')}, and this is {VERSION}; train it again")
    return manifest

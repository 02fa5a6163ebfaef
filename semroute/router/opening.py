"""From the parts of an artifact to the encoder and the scorer of a stage, refused where they do not fit together."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.encoders.spec import load_encoder
from semroute.errors import ArtifactError
from semroute.heads import MlpHead
from semroute.index import PrototypeIndex, Scorer, StageParts
from semroute.types import Encoder

PROBE_COSINE = 0.995
"""Below this, this machine's arithmetic gives vectors unlike those that the index was built with."""

log = logging.getLogger("semroute")


def stage_encoder(parts: StageParts, folder: Path) -> Encoder:
    """A stage's encoder; warns where this machine's arithmetic differs from the builder's.

    Raises:
        ArtifactError: its vectors have other dimensions than the stage.
        EncoderError, MissingExtraError: it cannot be loaded here.
    """
    entry = parts.entry
    try:
        encoder = load_encoder(parts.encoder, folder)
        if encoder.dimensions != entry.dimensions:
            raise ValueError(f"an encoder of {encoder.dimensions} dimensions, not {entry.dimensions}")
        # A remote encoder is not asked at start: it may be down, and each question costs money.
        if entry.encoder.get("kind") != "remote" and entry.probes:
            texts, vectors = zip(*entry.probes, strict=True)
            _check_probes(encoder.encode(texts), np.array(vectors, dtype=np.float32), folder)
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{folder}: the index does not fit together ({error}); build it again") from error
    return encoder


def stage_scorer(parts: StageParts, folder: Path) -> Scorer:
    """A stage's prototypes, head and calibration.

    Raises:
        ArtifactError: they do not fit together.
    """
    entry = parts.entry
    try:
        prototypes = PrototypeIndex.read(parts.files["prototypes"], parts.prototypes)
        head = None if entry.head is None else _head(parts)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder}: the index does not fit together ({error}); build it again") from error
    if prototypes.dimensions != entry.dimensions:
        raise ArtifactError(f"{folder}: prototypes of {prototypes.dimensions} dimensions, not the manifest's")
    return Scorer(prototypes, head, entry.weight, entry.calibration)


def _head(parts: StageParts) -> MlpHead:
    head = MlpHead.read(parts.files["head"])
    if parts.entry.head != head.kind:
        raise ValueError(f'a head of the unknown kind "{parts.entry.head}"')
    categories = len(parts.prototypes)
    if (head.direct.shape, head.output.shape[1]) != ((parts.entry.dimensions, categories), categories):
        raise ValueError("the head is for other categories or other vectors")
    return head


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

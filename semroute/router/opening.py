"""From the parts of an artifact to the encoder and the scorer of a stage, refused where they do not fit together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.config import NamedEncoder
from semroute.encoders.spec import load_encoder
from semroute.errors import ArtifactError, EncoderError
from semroute.heads import MlpHead
from semroute.index import PrototypeIndex, Scorer, StageParts
from semroute.inference.graph import available_cores
from semroute.types import Encoder, Matrix

PROBE_COSINE = 0.995
"""Below this, this machine's arithmetic gives vectors unlike those that the index was built with."""
TRIAL_TEXTS = ("?", "how long do I boil an egg", "Explain this sentence, and whatever stands in it. " * 40)
"""What every encoder has to embed before it serves: a text of one token, a query, and one that is cut."""
UNIT_TOLERANCE = 1e-2

log = logging.getLogger("semroute")


def stage_encoder(parts: StageParts, folder: Path, named: NamedEncoder | None = None) -> Encoder:
    """A stage's encoder, tried on some texts; warns where this machine's arithmetic differs from the builder's.

    Args:
        parts: of the stage.
        folder: of the artifact.
        named: the remote or torch encoder that the configuration names.

    Raises:
        ArtifactError: it cannot be used: its files are damaged, it does not embed texts, its vectors have other
            dimensions than the stage, or it is a remote or torch encoder that ``named`` is not.
        EncoderError, MissingExtraError: a torch model cannot be loaded here.
    """
    entry = parts.entry
    # That a torch model is not to be had here says nothing of the artifact.
    of_artifact = [] if parts.encoder.get("kind") == "torch" else [EncoderError]
    with _fitting(folder, *of_artifact):
        encoder = load_encoder(parts.encoder, folder, named)
        if encoder.dimensions != entry.dimensions:
            raise ValueError(f"an encoder of {encoder.dimensions} dimensions, not {entry.dimensions}")
        # A remote encoder is not asked at start: it may be down, and each question costs money.
        if parts.encoder.get("kind") != "remote":
            _try_encoder(encoder)
            if entry.probes:
                texts, vectors = zip(*entry.probes, strict=True)
                _check_probes(encoder.encode(texts), np.array(vectors, dtype=np.float32), folder)
    return encoder


def stage_scorer(parts: StageParts, folder: Path) -> Scorer:
    """A stage's prototypes, head and calibration, tried on some vectors.

    Raises:
        ArtifactError: they are damaged, or do not fit together.
    """
    entry = parts.entry
    with _fitting(folder):
        prototypes = PrototypeIndex.read(parts.files["prototypes"], parts.prototypes)
        if prototypes.dimensions != entry.dimensions:
            raise ValueError(f"prototypes of {prototypes.dimensions} dimensions, not {entry.dimensions}")
        head = None if entry.head is None else _head(parts)
        scorer = Scorer(prototypes, head, entry.weight, entry.calibration)
        _try_scorer(scorer, entry.dimensions, len(parts.prototypes))
    return scorer


@contextmanager
def _fitting(folder: Path, *more: type[Exception]) -> Iterator[None]:
    """Make an ArtifactError of whatever NumPy, FAISS or ONNX Runtime raise over an artifact, and of ``more``."""
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
        with np.errstate(all="ignore"):  # numbers that are out of range are told by what comes out
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


def _quoted(text: str | None) -> str:
    return f'"{ascii(text)[1:-1][:40]}"'


def _try_encoder(encoder: Encoder) -> None:
    """Embed :data:`TRIAL_TEXTS` one by one, and the short ones together, as a process does that serves.

    Raises:
        ValueError: what comes out are no unit vectors.
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
    """Score some vectors, alone and together.

    Raises:
        ValueError: what comes out are no scores.
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

"""An artifact brought to life: encoder, scorer and thresholds in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.config import Config
from semroute.encoders.cache import CachedEncoder
from semroute.encoders.spec import load_encoder
from semroute.errors import ArtifactError, ConfigError
from semroute.heads import MlpHead
from semroute.index import Artifact, PrototypeIndex, Scorer, open_artifact
from semroute.strategies import SemanticStrategy
from semroute.types import Encoder

PROBE_COSINE = 0.995
"""Below this, this machine's arithmetic gives vectors unlike those that the index was built with."""

log = logging.getLogger("semroute")


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """What a query needs, all read from one artifact; replaced as a whole.

    Attributes:
        artifact: the verified files and the manifest.
        encoder: with a cache of recent vectors.
        semantic: scores and thresholds; those of the configuration go over the artifact's.
        models: models of each category in order; where neither file nor configuration names any, the fallback's.
        fallback: models for queries that fit no category.
    """

    artifact: Artifact
    encoder: Encoder
    semantic: SemanticStrategy
    models: dict[str, tuple[str, ...]]
    fallback: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path, config: Config) -> LiveIndex:
        """Read the artifact in ``folder`` and lay ``config`` over it.

        Raises:
            ArtifactError: it is missing, damaged, foreign or of another version.
            ConfigError: the configuration speaks of a category that the index lacks.
            EncoderError, MissingExtraError: its encoder cannot be loaded here.
        """
        artifact = open_artifact(folder)
        encoder = open_encoder(artifact)
        entries = artifact.manifest.categories
        unknown = sorted(set(config.categories) - set(entries))
        if unknown:
            known = ", ".join(entries)
            raise ConfigError(
                f"the index {folder} has no such category; it has {known}", key=f"categories.{unknown[0]}"
            )
        models, thresholds = {}, []
        for name, entry in entries.items():
            override = config.categories.get(name)
            models[name] = (override and override.models) or entry.models or config.fallback.models
            pinned = None if override is None else override.threshold
            thresholds.append(entry.threshold if pinned is None else pinned)
        semantic = SemanticStrategy(open_scorer(artifact), tuple(entries), np.array(thresholds, dtype=np.float64))
        return cls(artifact, CachedEncoder(encoder), semantic, models, config.fallback.models)


def open_encoder(artifact: Artifact) -> Encoder:
    """The artifact's encoder; warns where this machine's arithmetic differs from the builder's.

    Raises:
        ArtifactError: its vectors have other dimensions than the index.
    """
    manifest = artifact.manifest
    files = {
        role.removeprefix("encoder_"): path.name for role, path in artifact.files.items() if role.startswith("encoder_")
    }
    try:
        encoder = load_encoder({**manifest.encoder, "files": files}, artifact.folder)
        if encoder.dimensions != manifest.dimensions:
            raise ValueError(f"an encoder of {encoder.dimensions} dimensions, not {manifest.dimensions}")
        # A remote encoder is not asked at start: it may be down, and each question costs money.
        if manifest.encoder.get("kind") != "remote" and manifest.probes:
            texts, vectors = zip(*manifest.probes, strict=True)
            _check_probes(encoder.encode(texts), np.array(vectors, dtype=np.float32), artifact.folder)
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{artifact.folder}: the index does not fit together ({error}); build it again") from error
    return encoder


def open_scorer(artifact: Artifact) -> Scorer:
    """The artifact's prototypes, head and calibration.

    Raises:
        ArtifactError: the parts do not fit together.
    """
    manifest = artifact.manifest
    try:
        prototypes = PrototypeIndex.read(
            artifact.files["prototypes"], [entry.prototypes for entry in manifest.categories.values()]
        )
        head = None if manifest.head is None else _head(artifact)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{artifact.folder}: the index does not fit together ({error}); build it again") from error
    if prototypes.dimensions != manifest.dimensions:
        raise ArtifactError(f"{artifact.folder}: prototypes of {prototypes.dimensions} dimensions, not the manifest's")
    return Scorer(prototypes, head, manifest.weight, manifest.calibration)


def _head(artifact: Artifact) -> MlpHead:
    manifest = artifact.manifest
    head = MlpHead.read(artifact.files["head"])
    if manifest.head != head.kind:
        raise ValueError(f'a head of the unknown kind "{manifest.head}"')
    if (head.direct.shape, head.output.shape[1]) != (
        (manifest.dimensions, len(manifest.categories)),
        len(manifest.categories),
    ):
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

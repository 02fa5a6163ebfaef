"""An artifact brought to life: encoders, scorers and thresholds in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semroute.config import Config, NamedEncoder
from semroute.encoders.cache import CachedEncoder
from semroute.errors import ConfigError
from semroute.index import Artifact, FirstStage, Scorer, open_artifact
from semroute.router.opening import stage_encoder, stage_scorer
from semroute.router.unknown import ExactExamples
from semroute.strategies import SemanticStrategy
from semroute.texts.nearest import known_names
from semroute.types import CategoryScorer, Encoder


@dataclass(frozen=True, slots=True)
class LoadedIndex:
    """What a query needs, all read from one artifact; replaced as a whole.

    Attributes:
        artifact: the verified files and the manifest.
        encoder: with a cache of recent vectors.
        scorer: scores of all categories from its vectors.
        first: the first stage, with a cache of its own; None where the artifact has none.
        semantic: decides by thresholds; those of the configuration go over the artifact's.
        models: models of each category in order; where neither file nor configuration names any, the fallback's.
        fallback: models for queries that fit no category.
        examples: the stored examples of which the encoder may know nothing, to compare such queries with.
        without_models: categories of which neither file nor configuration names models.
    """

    artifact: Artifact
    encoder: Encoder
    scorer: CategoryScorer
    first: FirstStage | None
    semantic: SemanticStrategy
    models: dict[str, tuple[str, ...]]
    fallback: tuple[str, ...]
    examples: ExactExamples
    without_models: frozenset[str] = frozenset()

    @classmethod
    def open(cls, folder: Path, config: Config) -> LoadedIndex:
        """Read the artifact in ``folder`` and lay ``config`` over it.

        Raises:
            ArtifactError: it is missing, damaged, foreign or of another version, or asks for a remote or torch encoder
                that the configuration does not name.
            ConfigError: the configuration speaks of a category that the index lacks.
            EncoderError, MissingExtraError: a torch encoder cannot be loaded here.
        """
        artifact = open_artifact(folder)
        scorer, first = open_scorer(artifact), open_first_stage(artifact)
        encoder = open_encoder(artifact, config.encoder)
        if first is not None:
            first = replace(first, encoder=CachedEncoder(first.encoder))
        semantic, models = _laid_over(artifact, config)
        bare, examples = _without_models(artifact, config), ExactExamples(artifact)
        cached, models_left = CachedEncoder(encoder), config.fallback.models
        return cls(artifact, cached, scorer, first, semantic, models, models_left, examples, bare)

    def with_config(self, config: Config) -> LoadedIndex:
        """The same artifact and encoders under another configuration; vectors that one has made serve the other.

        Raises:
            ConfigError: the configuration speaks of a category that the index lacks.
        """
        semantic, models = _laid_over(self.artifact, config)
        bare = _without_models(self.artifact, config)
        return replace(self, semantic=semantic, models=models, fallback=config.fallback.models, without_models=bare)


def _laid_over(artifact: Artifact, config: Config) -> tuple[SemanticStrategy, dict[str, tuple[str, ...]]]:
    """Thresholds and models of the categories, with the configuration over the artifact."""
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
    return SemanticStrategy(tuple(entries), np.array(thresholds, dtype=np.float64)), models


def _without_models(artifact: Artifact, config: Config) -> frozenset[str]:
    named = {name for name, override in config.categories.items() if override.models}
    return frozenset(name for name, entry in artifact.manifest.categories.items() if not entry.models) - named


def open_encoder(artifact: Artifact, named: NamedEncoder | None = None) -> Encoder:
    """The artifact's encoder; warns where this machine's arithmetic differs from the builder's.

    Args:
        artifact: the verified files.
        named: the remote or torch encoder that the configuration names (``Config.encoder``).

    Raises:
        ArtifactError: it cannot be used, or is a remote or torch encoder that ``named`` is not.
        EncoderError, MissingExtraError: a torch encoder cannot be loaded here.
    """
    return stage_encoder(artifact.main, artifact.folder, named)


def open_scorer(artifact: Artifact) -> Scorer:
    """The artifact's prototypes, head and calibration.

    Raises:
        ArtifactError: the parts do not fit together.
    """
    return stage_scorer(artifact.main, artifact.folder)


def open_first_stage(artifact: Artifact) -> FirstStage | None:
    """The artifact's first stage, None where it has none; warns as :func:`open_encoder` does.

    Raises:
        ArtifactError: its parts do not fit together, or not to the index, or its encoder is none of its own files.
    """
    parts, entry = artifact.first, artifact.manifest.first_stage
    if parts is None or entry is None:
        return None
    return FirstStage(stage_encoder(parts, artifact.folder), stage_scorer(parts, artifact.folder), entry.bar)

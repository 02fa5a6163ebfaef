"""Loading of the configured query classifier as a strategy.

A module of its own: it loads only for configurations with a classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semroute.catalog.tokens import estimate_tokens
from semroute.config import Config
from semroute.errors import ArtifactError, ConfigError
from semroute.outcomes.costs import configured_prices
from semroute.predictors.query_quality import QueryClassifier, check_encoder, read_query_classifier
from semroute.router.load import LoadedIndex
from semroute.strategies import Pool
from semroute.strategies.classifier import ClassifierStrategy
from semroute.types import Request

if TYPE_CHECKING:
    pass


def classifier_strategy(live: LoadedIndex, config: Config, pool: Pool, folder: Path) -> ClassifierStrategy:
    """Load the configured query classifier as a strategy.

    Args:
        live: the artifact in memory.
        config: candidates and prices.
        pool: resolves the names of models and groups.
        folder: folder of the classifier.

    Raises:
        ArtifactError: the classifier cannot be read, or was trained on another encoder's vectors.
        ConfigError: it knows none of the models that it could choose.
    """
    section = config.classifier
    try:
        classifier = read_query_classifier(folder)
    except ArtifactError as error:
        raise ArtifactError(f"classifier.folder: {error}") from error
    check_encoder(classifier, live.encoder, folder)
    candidates = section.candidates or _callable(classifier, config)
    if not set(pool.models(candidates)) & set(classifier.models):
        names = ", ".join(candidates or sorted({deployment.model for deployment in config.deployments}))
        raise ConfigError(
            f"the classifier knows none of {names}; it knows {', '.join(classifier.models)}",
            key="classifier.candidates",
        )
    costs = classifier.costs.with_prices(configured_prices(config))

    def expected_cost(requests: Sequence[Request]) -> NDArray[np.float64]:
        return costs.expected([estimate_tokens(request) for request in requests])

    value = classifier.value if section.value is None else section.value
    return ClassifierStrategy(classifier, expected_cost, pool, candidates, value)


def _callable(classifier: QueryClassifier, config: Config) -> tuple[str, ...]:
    """Return the classifier's deployed models; all if nothing is deployed."""
    placed = {deployment.model for deployment in config.deployments}
    return tuple(model for model in classifier.models if model in placed or not placed)

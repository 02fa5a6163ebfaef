"""Whether the classifiers that a configuration names are there."""

from __future__ import annotations

from collections.abc import Iterator

from semroute.config import Config, Problem
from semroute.config.cascade import Accept, CascadeConfig
from semroute.config.problem import dotted
from semroute.errors import ArtifactError
from semroute.heads.answers.folder import read_classifier


def check_classifiers(config: Config) -> list[Problem]:
    """An error for each check ``quality`` whose classifier cannot be read."""
    problems = list(_of(config.cascade, ("cascade",)))
    for name, own in config.categories.items():
        if own.cascade is not None:
            problems += _of(own.cascade, ("categories", name, "cascade"))
    return problems


def _of(cascade: CascadeConfig, key: tuple[str | int, ...]) -> Iterator[Problem]:
    if not cascade.tiers:
        return
    yield from _problem(cascade.accept, (*key, "accept"))
    for place, tier in enumerate(cascade.tiers):
        if tier.accept is not None:
            yield from _problem(tier.accept, (*key, "tiers", place, "accept"))


def _problem(accept: Accept, key: tuple[str | int, ...]) -> Iterator[Problem]:
    if accept.quality is not None:
        try:
            read_classifier(accept.quality.classifier)
        except ArtifactError as error:
            yield Problem("error", dotted((*key, "quality")), str(error))

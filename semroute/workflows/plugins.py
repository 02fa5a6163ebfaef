"""Check of the plugins that a configuration names, and of those installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from semroute.cascade.checks import plugin_check
from semroute.config import Config, Problem
from semroute.config.check import cascades
from semroute.config.extensions import clashes
from semroute.config.values import dotted
from semroute.encoders.plugin import check_encoder
from semroute.errors import SemrouteError
from semroute.providers import adapter_of
from semroute.strategies import Pool, StrategySetup
from semroute.strategies.base import plugin_strategy


def plugin_problems(config: Config, category_models: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Return the problems of a configuration's plugins, and of installed ones.

    Errors: a strategy, check or adapter that cannot be made, as a router makes them; an encoder that cannot be imported
    (it is not made, which may take long). Warnings: an installed plugin that can never be used.

    Args:
        config: a valid configuration.
        category_models: each category of the index with its models; empty where there is no index to ask.
    """
    problems = []
    if config.encoder is not None and config.encoder.kind == "plugin":
        problem = check_encoder(config.encoder.model, config.encoder.plugins)
        problems += [] if problem is None else [Problem("error", "encoder", problem)]
    for key, made in _made(config, category_models):
        try:
            made()
        except SemrouteError as error:
            problems.append(Problem("error", key, str(error)))
    return [*problems, *clashes()]


def _made(config: Config, category_models: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the key of each plugin with a function that makes it."""
    models = {name: tuple(named) or config.fallback.models for name, named in category_models.items()}
    names = [*config.fallback.models, *(deployment.model for deployment in config.deployments)]
    pool = Pool(config.members, [*names, *(model for named in models.values() for model in named)])
    for name, section in config.plugin_strategies.items():
        setup = StrategySetup(name, pool, models)
        key = f"strategies.{config.strategies.index(name)}"
        yield key, partial(plugin_strategy, section.plugin, section.options, setup)
    for key, cascade in cascades(config).items():
        accepts = [("accept", cascade.accept), *((f"tiers.{n}.accept", t.accept) for n, t in enumerate(cascade.tiers))]
        for place, accept in accepts:
            for section in () if accept is None else accept.plugin_checks:
                where = dotted([*key.split("."), *place.split("."), section.plugin.name])
                yield where, partial(plugin_check, section.plugin, section.options)
    for position, deployment in enumerate(config.deployments):
        if deployment.plugin is not None:
            yield f"deployments.{position}.format", partial(adapter_of, deployment)

"""Deployments of which too little is known to choose among them."""

from __future__ import annotations

from collections.abc import Iterator

from semroute.catalog.capability import model_card
from semroute.catalog.prices import price_of
from semroute.config import Config, Problem
from semroute.config.problem import dotted


def check_catalog(config: Config) -> list[Problem]:
    """Warnings: deployments whose price is not known, then models whose context window is not known at any place."""
    return [*_without_price(config), *_without_context(config)]


def _without_price(config: Config) -> Iterator[Problem]:
    for position, deployment in enumerate(config.deployments):
        if price_of(deployment, config) is None:
            message = f'no price is known for model "{dotted([deployment.upstream])}": calls here have no cost'
            fix = "add price: {input: …, output: …} in USD per million tokens; 0 and 0 where calls cost nothing"
            yield Problem("warning", dotted(("deployments", position)), message, fix)


def _without_context(config: Config) -> Iterator[Problem]:
    for model in dict.fromkeys(deployment.model for deployment in config.deployments):
        if model_card(model, config).context is None:
            message = "its context window is not known: requests that are too long are sent, and refused there"
            fix = f'add "{dotted([model])}: {{context: …}}" under models, in tokens'
            yield Problem("warning", dotted(("models", model)), message, fix)

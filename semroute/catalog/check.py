"""Deployments of which too little is known to choose among them."""

from __future__ import annotations

from collections.abc import Iterator

from semroute.catalog.capability import model_card
from semroute.catalog.prices import price_of
from semroute.config import Config, Problem
from semroute.config.deciding_check import cascades
from semroute.config.problem import dotted
from semroute.types import tier_words


def check_catalog(config: Config) -> list[Problem]:
    """Return what is unknown of deployments and models.

    Errors: tiers that a cascade's budget leaves out because none of their places has a known price. Warnings: other
    deployments without one, then models whose context window is not known at any place.
    """
    return [*_unaffordable(config), *_without_price(config), *_without_context(config)]


def _unaffordable(config: Config) -> Iterator[Problem]:
    for key, cascade in cascades(config).items():
        if cascade.max_usd is None:
            continue
        for position, tier in enumerate(cascade.tiers):
            places = config.deployments_of(tier.use)
            if places and all(price_of(place, config) is None for place in places):
                nth = tier_words(position, len(cascade.tiers))
                message = f'{nth}: no price is known for "{dotted([tier.use])}", and a tier without one is left out'
                fix = f"add price to its deployments or models, or remove {key}.max_usd"
                yield Problem("error", f"{key}.tiers.{position}", message, fix)


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

"""``semroute advise``: where a cascade pays, and where it wastes money."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, json_option, log_option
from semroute.cli.times import since_option, until_option

if TYPE_CHECKING:
    from semroute.config import Config
    from semroute.evaluate.advice.advice import Advice


@click.command()
@since_option
@until_option
@log_option
@config_option
@json_option
def advise(
    since: datetime | None, until: datetime | None, log_url: str | None, config_path: Path | None, as_json: bool
) -> None:
    """Say for each category whether its cascade pays, or its queries had better go straight to the last tier.

    A cascade whose first tiers are rejected too often costs more than the last tier alone. Cost and time are those of
    the log; what a query would have cost elsewhere is reckoned from the tokens of its answer. Tiers are taken as
    semroute.yaml has them now.
    """
    from semroute.catalog import cheapest_cost
    from semroute.cli.console import print_json
    from semroute.cli.logs import read_log
    from semroute.evaluate.advice.advice import advise as advise_on
    from semroute.evaluate.advice.advice import overrides
    from semroute.types import Usage

    opened, config = read_log(log_url, config_path)

    def price_of(name: str, usage: Usage) -> float | None:
        cost = cheapest_cost(config, name, usage)
        return None if cost is None else cost.usd

    with opened:
        advices = advise_on(opened.outcomes(since, until), lambda name: _tiers(config, name), price_of)
    if as_json:
        from semroute.evaluate.advice.advice import as_dict

        print_json({"categories": [as_dict(advice) for advice in advices], "overrides": overrides(advices)})
    else:
        _print(advices)


def _tiers(config: Config, category: str | None) -> tuple[str, ...]:
    own = None if category is None else config.categories.get(category)
    cascade = config.cascade if own is None or own.cascade is None else own.cascade
    return tuple(tier.use for tier in cascade.tiers)


def _print(advices: tuple[Advice, ...]) -> None:
    import yaml

    from semroute.cli.advice_tables import advice_table, sentences, tiers_table
    from semroute.cli.console import print_line, print_note, stdout
    from semroute.evaluate.advice.advice import overrides

    if not advices:
        print_note("no outcome in the log went up a cascade that semroute.yaml has now: nothing to advise on")
        return
    console = stdout()
    for part in (advice_table(advices), tiers_table(advices), sentences(advices)):
        console.print(part)
        console.print()
    found = overrides(advices)
    if found:
        print_note("to follow this, in semroute.yaml:")
        print_line(yaml.safe_dump({"categories": found}, sort_keys=False, allow_unicode=True).rstrip())

"""Options that several commands share, so that they are spelt and explained alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

index_option = click.option(
    "--index",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Folder of the index artifact (default: SEMROUTE_INDEX, or .semroute/index).",
)
"""``index: Path | None``."""

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file (default: semroute.yaml in this folder, if there is one).",
)
"""``config_path: Path | None``."""

log_option = click.option(
    "--log", "log_url", metavar="URL", help="Database of the log (default: log.url, or .semroute/log.db)."
)
"""``log_url: str | None``."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""``as_json: bool``."""


def _pairs(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, sign, rest = value.partition("=")
        if not sign or not key:
            raise click.BadParameter(f'write it as KEY=VALUE, not "{value}"', context, parameter)
        pairs[key] = rest
    return pairs


metadata_option = click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_pairs,
    help="What is known of the caller, for rules; may be repeated.",
)
"""``metadata: dict[str, str]``."""

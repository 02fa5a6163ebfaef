"""Options that several commands share, so that they are spelt and explained alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class NumberRange(click.FloatRange):
    """A range of numbers, and "nan" is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


class NameChoice(click.Choice[str]):
    """A choice among names; an unknown one gets the one that was meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Name the choices, and the nearest."""
        from semroute.texts.nearest import did_you_mean

        said = super().get_invalid_choice_message(value, ctx)
        meant = did_you_mean(str(value), self.choices)
        return f"{said} {meant[0].upper()}{meant[1:]}" if meant else said


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

text_option = click.option("--text", metavar="COLUMN", help="Column of the texts, by name or number.")
"""``text: str | None``."""

label_option = click.option("--label", metavar="COLUMN", help="Column of the labels, by name or number.")
"""``label: str | None``."""

label_names_option = click.option(
    "--names",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Names of labels that are numbers: one a line, JSON, dataset_info.json, or the data set's README.md.",
)
"""``names: Path | None``."""

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


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(dict.fromkeys(name.strip() for name in value.split(",")))


def names_option(flag: str, help: str) -> Callable[[Function], Function]:
    """An option of names with commas between them: ``tuple[str, ...] | None``."""
    return click.option(flag, metavar="A,B", callback=_names, help=help)


models_option = names_option("--models", "Only these models of the outcomes.")
"""``models: tuple[str, ...] | None``."""

prices_option = click.option(
    "--prices",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='YAML, "model: [input, output]", USD per million tokens.',
)
"""``prices: Path | None``."""

vectors_option = click.option(
    "--vectors", type=click.Path(path_type=Path), metavar="FILE.npz", help="Keep the queries' vectors in this file."
)
"""``vectors: Path | None``."""

seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of everything drawn."
)
"""``seed: int``."""

HEADS = ("linear", "neighbours", "clusters", "boosting", "forest")
"""Names of :func:`semroute.learn.queries.training.estimators`, which imports too much to be asked for a help text."""


def choose_heads(*more: str) -> Callable[[Function], Function]:
    """``heads: tuple[str, ...]``; empty for all. ``more`` are names beside :data:`HEADS`."""
    return click.option(
        "--head",
        "heads",
        multiple=True,
        type=NameChoice([*HEADS, *more]),
        help="Try only this one (repeatable; default: all).",
    )


heads_option = choose_heads()

no_log_option = click.option(
    "--no-log", is_flag=True, help="Keep nothing of this query, whatever the configuration says of the log."
)

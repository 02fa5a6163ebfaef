"""Prices of models: from a file of their own, or from ``semroute.yaml``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from semroute.errors import DataError

if TYPE_CHECKING:
    from semroute.config import Config, Price

_SHAPE = 'write it as "model: [input, output]" in USD per million tokens, such as "small: [0.15, 0.60]"'


def read_prices(path: Path | str) -> dict[str, Price]:
    """Read a YAML file of ``model: [input, output]``, USD per million tokens.

    Raises:
        DataError: the file cannot be read or used. The message has a line for each problem, with the fix.
    """
    from semroute.config.load import read
    from semroute.config.yaml_lines import YamlError, parse
    from semroute.errors import ConfigError

    path = Path(path)
    try:
        document = parse(read(path))
    except ConfigError as error:
        raise DataError(str(error)) from None
    except YamlError as error:
        raise DataError(str(error), path=path, line=error.line) from None
    if not isinstance(document.data, dict) or not document.data:
        raise DataError(f"holds no prices; {_SHAPE}", path=path)
    if isinstance(document.data.get("models"), dict):
        raise DataError("is a configuration; name it with --config in place of --prices", path=path)
    problems = [(problem.line, f"{problem.key}: {problem.text}") for problem in document.repeated]
    prices = {}
    for model, value in document.data.items():
        price = _price(value)
        if price is None:
            problems.append((document.line((str(model),)), f'the price of "{model}" cannot be used; {_SHAPE}'))
        else:
            prices[str(model)] = price
    if problems:
        lines = [str(DataError(message, path=path, line=line)) for line, message in problems]
        raise DataError("\n".join(lines))
    return prices


def configured_prices(config: Config) -> dict[str, Price]:
    """The price of every model of a configuration that has one: its own, else that of its first deployment with one."""
    from semroute.catalog.prices import price_of

    prices = {name: spec.price for name, spec in config.models.items() if spec.price is not None}
    for deployment in config.deployments:
        price = price_of(deployment, config)
        if price is not None:
            prices.setdefault(deployment.model, price)
    return prices


def _price(value: object) -> Price | None:
    from semroute.config import Price

    if isinstance(value, Mapping):
        value = [value.get("input"), value.get("output")] if set(value) == {"input", "output"} else None
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_price, value)):
        return None
    return Price(input=value[0], output=value[1])


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0

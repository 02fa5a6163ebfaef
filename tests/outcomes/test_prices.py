from __future__ import annotations

from pathlib import Path

import pytest

from semroute.config import load_config
from semroute.errors import DataError
from semroute.outcomes.costs import configured_prices, read_prices


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_prices_are_read_from_lists_and_from_mappings(tmp_path: Path) -> None:
    prices = read_prices(_write(tmp_path / "p.yaml", "a: [10.0, 30]\nb: {input: 0, output: 0.5}\n3.5: [1, 2]\n"))
    assert {name: (price.input, price.output) for name, price in prices.items()} == {
        "a": (10.0, 30.0),
        "b": (0.0, 0.5),
        "3.5": (1.0, 2.0),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2]\nb: 3\n", ':2: the price of "b" cannot be used'),
        ("a: [1, -2]\n", ':1: the price of "a" cannot be used'),
        ("a: [1, .nan]\n", ':1: the price of "a" cannot be used'),
        ("a: [1, true]\n", ':1: the price of "a" cannot be used'),
        ("a: {input: 1}\n", ':1: the price of "a" cannot be used'),
        ("a: [1, 2]\na: [1, 3]\n", ":2: a: written twice, first in line 1; keep one of the two"),
        ("", "holds no prices"),
        ("- a\n", "holds no prices"),
        ("a: [1, 2\n", "malformed YAML"),
        ("models: {a: {price: {input: 1, output: 2}}}\n", "name it with --config"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_prices(_write(tmp_path / "p.yaml", text))
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "p.yaml"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.yaml: no such file"):
        read_prices(tmp_path / "absent.yaml")


def test_a_configuration_gives_the_models_own_prices_and_else_a_deployments(tmp_path: Path) -> None:
    config = load_config(
        _write(
            tmp_path / "semroute.yaml",
            """
models:
  small: {price: {input: 0.15, output: 0.6}}
  large: {}
  free: {}
deployments:
  - {name: one, model: large, format: openai, base_url: "http://localhost:1/v1", price: {input: 5, output: 15}}
  - {name: two, model: large, format: openai, base_url: "http://localhost:2/v1", price: {input: 9, output: 9}}
  - {name: three, model: free, format: openai, base_url: "http://localhost:3/v1"}
""",
        )
    )
    prices = configured_prices(config)
    assert {name: (price.input, price.output) for name, price in prices.items()} == {
        "small": (0.15, 0.6),
        "large": (5.0, 15.0),
    }

"""What the package asks for, and what it is tested with."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
WANTED = [
    Requirement(text) for text in (*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra))
]
PINS = {
    canonicalize_name(pin.name): next(iter(pin.specifier)).version
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}


def test_what_is_tested_is_what_may_be_installed() -> None:
    for wanted in WANTED:
        if wanted.name != PROJECT["name"]:
            assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)]), wanted


def test_the_extra_all_names_every_extra() -> None:
    (everything,) = (Requirement(text) for text in EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - {"all", "dev"}


@pytest.mark.parametrize(
    ("name", "broken"),
    [("sentence-transformers", "5.7.0"), ("onnxruntime", "1.26.0"), ("transformers", "5.2.0"), ("onnx", "1.20.1")],
)
def test_releases_that_run_or_read_what_a_foreign_model_says_are_not_installed(name: str, broken: str) -> None:
    (wanted,) = (requirement for requirement in WANTED if requirement.name == name)
    assert not wanted.specifier.contains(broken)

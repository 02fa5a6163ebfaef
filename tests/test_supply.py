"""What the package asks for, and what it is tested with."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import PAGES

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


def test_the_extra_all_names_every_extra_that_is_used_and_test_those_without_torch() -> None:
    (everything,) = (Requirement(text) for text in EXTRAS["all"])
    used = set(EXTRAS) - {"all", "test", "dev"}
    assert everything.extras == used
    assert Requirement(EXTRAS["test"][0]).extras == used - {"torch", "static"}


def brought(extra: str) -> set[str]:
    """Return the distributions that an extra names, those of the extras within it included."""
    found: set[str] = set()
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name == PROJECT["name"]:
            found |= {name for inner in requirement.extras for name in brought(inner)}
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def test_neither_building_nor_testing_asks_for_torch() -> None:
    for extra in ("build", "test"):
        assert not brought(extra) & {*(brought("torch") - brought("build")), "model2vec"}


def imports() -> Iterator[tuple[Path, ast.AST, str, str | None]]:
    """Yield what the package imports from elsewhere: file, node, top module, and the extra that ``require`` names."""
    for path in sorted((ROOT / "semroute").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for_types = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if node in for_types:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield path, node, alias.name.split(".")[0], None
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield path, node, node.module.split(".")[0], None
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
                extra = next(keyword.value for keyword in node.keywords if keyword.arg == "extra")
                yield path, node, ast.literal_eval(node.args[0]).split(".")[0], ast.literal_eval(extra)


DISTRIBUTIONS = {
    "faiss": "faiss-cpu",
    "genai_prices": "genai-prices",
    "markupsafe": "jinja2",  # which is built on it
    "opentelemetry": "opentelemetry-sdk",
    "prometheus_client": "prometheus-client",
    "pydantic_core": "pydantic",
    "re2": "google-re2",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Distributions of modules that are called otherwise."""
NAMED_FIRST = {
    "aiohttp",
    "onnx",
    "prometheus_client",
    "psycopg",
    "pyarrow",
    "redis",
    "sentence_transformers",
    "starlette",
    "torch",
    "transformers",
    "uvicorn",
    "yarl",
}
"""Modules of extras that are also imported plainly, where ``require`` or the like has named the extra before."""
BASE = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}


@pytest.mark.slow
def test_what_is_imported_is_declared_and_an_extra_that_a_message_names_brings_it() -> None:
    wrong = []
    for path, node, module, extra in imports():
        distribution = DISTRIBUTIONS.get(module, module)
        declared = BASE if extra is None else brought(extra) | BASE
        if module in sys.stdlib_module_names or module == "semroute" or distribution in declared:
            continue
        if extra is not None or module not in NAMED_FIRST:
            wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {module} {extra or ''}")  # type: ignore[attr-defined]
    assert wrong == []


def test_no_command_in_a_message_or_a_page_installs_a_strangers_package() -> None:
    programs = [*(ROOT / "semroute").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    commands = [
        line for page in (*programs, *PAGES) for line in re.findall(r"pip install [^\n]*", page.read_text("utf-8"))
    ]
    assert any("semroute-router" in command for command in commands)
    assert [command for command in commands if re.search(r"(?<![-\w/.])semroute(?!-router|[\w/.])", command)] == []


@pytest.mark.parametrize(
    ("name", "broken"),
    [("sentence-transformers", "5.7.0"), ("onnxruntime", "1.26.0"), ("transformers", "5.2.0"), ("onnx", "1.20.1")],
)
def test_releases_that_run_or_read_what_a_foreign_model_says_are_not_installed(name: str, broken: str) -> None:
    (wanted,) = (requirement for requirement in WANTED if requirement.name == name)
    assert not wanted.specifier.contains(broken)

"""Example packages, really installed: each test runs a process whose import path has them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plugins.environment import Environment

PACKAGES = Path(__file__).parent / "packages"
EXAMPLES = ("acme-strategy", "acme-check", "acme-encoder", "acme-wire", "acme-command")
BROKEN = ("broken-semroute", "twin-semroute")
CATEGORIES = {
    "cooking": ("how do I boil an egg", "recipe for carrot soup", "how long to roast a chicken", "bake a sour bread"),
    "code": ("write a python function", "fix this java class", "what does this regex do", "sort a list in python"),
    "law": ("is this contract valid", "what does the court say", "notice period of a lease", "appeal a court ruling"),
}


def install(names: tuple[str, ...], work: Path) -> Path:
    """Install packages by pip into a folder of their own; their build backend needs no network."""
    sources = []
    for name in names:
        sources.append(str(shutil.copytree(PACKAGES / name, work / "sources" / name)))
        shutil.copy(PACKAGES / "backend.py", work / "sources" / name)
    target = work / "installed"
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), *sources],
        cwd=work,
        check=True,
        capture_output=True,
    )
    return target


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One distribution for each protocol."""
    return install(EXAMPLES, tmp_path_factory.mktemp("plugins"))


@pytest.fixture(scope="session")
def installed_broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distributions whose plugins cannot be used."""
    return install(BROKEN, tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="session")
def built(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index that was built by the command line with the encoder of a plugin."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "categories").mkdir()
    for name, examples in CATEGORIES.items():
        (folder / "categories" / f"{name}.txt").write_text("\n".join(examples) + "\n", encoding="utf-8")
    done = Environment(folder, installed).semroute("build-index", "--encoder", "hashing:512", "--no-head")
    assert done.returncode == 0, done.stderr
    assert 'put this line into it: encoder: "hashing:512"' in done.stderr
    return folder


@pytest.fixture
def acme(installed: Path, tmp_path: Path) -> Environment:
    """A process with the example packages, in a folder of its own."""
    return Environment(tmp_path, installed)


@pytest.fixture
def broken(installed_broken: Path, tmp_path: Path) -> Environment:
    """A process with the broken packages, in a folder of its own."""
    return Environment(tmp_path, installed_broken)


@pytest.fixture
def bare(tmp_path: Path) -> Environment:
    """A process without any of the packages, in the same folder as the others."""
    return Environment(tmp_path, None)

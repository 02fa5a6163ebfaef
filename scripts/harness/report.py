"""Options of the benchmarks' command lines, and Markdown of their results."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID

from semroute.errors import SemrouteError
from semroute.evaluate.metrics import Interval
from semroute.text.names import printable
from semroute.types.protocols import Progress

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
DATA = click.option("--data", type=FOLDER, required=True)
BEFORE = click.option("--before", type=FOLDER, help="An earlier checkout to compare.")
INDEX = click.option("--index", type=FOLDER, required=True)
OUT = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables here too.")
OUT_JSON = click.option("--out", type=click.Path(path_type=Path), help="Write this Markdown file, and JSON beside it.")
VECTORS = click.option("--vectors", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps vectors.")


def seed_and_resamples(command: Any) -> Any:
    """Add ``--resamples`` and ``--seed``."""
    seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
    return click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True)(seed(command))


def run_command(command: click.Command) -> None:
    """Run a script's command and end; an error is a line and exit code."""
    try:
        command()
    except SemrouteError as error:
        lines = map(printable, str(error).splitlines())
        click.echo("error: " + "\n".join(lines), err=True)
        sys.exit(error.exit_code)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a function of step, done and total that draws progress bars."""
    console = Console(stderr=True)
    with Bars(console=console, disable=not console.is_terminal, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total)

        yield show


def publish(lines: Iterable[str], out: Path | None, results: object = None) -> None:
    """Print lines as they come; write them to ``out``, and JSON beside."""
    kept = []
    for line in lines:
        click.echo(line)
        kept.append(line)
    if out is not None:
        out.write_text("\n".join(kept) + "\n", encoding="utf-8")
        if results is not None:
            out.with_suffix(".json").write_text(json.dumps(results, indent=1, default=asdict) + "\n", encoding="utf-8")


def row(*cells: object) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: object) -> list[str]:
    """Return the head of a table, and the line below it."""
    return [row(*cells), row(*["---"] * len(cells))]


def judged(*cells: object, goal: str = "", met: bool | None = None) -> str:
    """Return a row that ends with a goal, and whether it was met."""
    return row(*cells, goal, "" if met is None else "met" if met else "missed")


def with_interval(figure: Interval, sign: str = "") -> str:
    """Return a figure with its interval; a dash for one that is not a number."""
    if figure.value != figure.value:
        return "-"
    return f"{figure.value:{sign}.3f} ({figure.low:{sign}.3f} to {figure.high:{sign}.3f})"


def machine(*packages: str) -> dict[str, Any]:
    """Return the hardware and the versions of a measurement."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def machine_line(host: dict[str, Any]) -> str:
    """Return :func:`machine` as a sentence."""
    packages = ", ".join(f"{name} {number}" for name, number in host["packages"].items())
    return (
        f"{host['cpu']}, {host['cores']} cores, load {host['load_before']:.2f} before; Python {host['python']}, "
        f"{packages}."
    )

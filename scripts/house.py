"""Print the shape of the code: sizes, import cycles, traced modules.

    python scripts/house.py [--index INDEX]

Without an index, the calls are not traced. A module counts as entered if one of its functions runs during a call. The
call is made once before, so that one-time loading is not counted; nor is the test double, which runs in the same
process.
"""

from __future__ import annotations

import ast
import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import FrameType

import click

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "semroute"
QUERIES = ("how do I boil an egg", "my invoice charged me twice", "what is the capital of France?")
CONFIG = """
models: {small: {}, medium: {}, large: {}}
deployments:
"""


@click.command()
@click.option("--index", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Trace calls with it.")
def main(index: Path | None) -> None:
    """Print one Markdown table of figures, one of the folders' lines."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in trees}
    modules = {path: count for path, count in lines.items() if path.name != "__init__.py"}
    largest = max(modules, key=lambda path: modules[path])
    circles = import_circles({_dotted(path): tree for path, tree in trees.items()})
    rows = [
        ("modules", f"{len(modules)}, and {len(lines) - len(modules)} package files"),
        ("median lines", f"{median(modules.values()):g}"),
        ("largest", f"{modules[largest]} ({largest.relative_to(ROOT)})"),
        ("of 50 lines or fewer", str(sum(count <= 50 for count in modules.values()))),
        ("circles of imports", str(len(circles)) + "".join(f"; {' ↔ '.join(circle)}" for circle in circles)),
        ("class names used twice", ", ".join(repeated_classes(trees)) or "none"),
        ("lines", f"{sum(lines.values()):,}"),
    ]
    if index is not None:
        rows += [(f"modules entered by {name}", str(len(found))) for name, found in traced_calls(index).items()]
    _table(("figure", "value"), rows)
    folders: Counter[str] = Counter()
    for path, count in lines.items():
        parts = path.relative_to(PACKAGE).parts
        folders[parts[0] if len(parts) > 1 else "(root)"] += count
    click.echo()
    _table(("folder", "lines"), [(name, f"{count:,}") for name, count in sorted(folders.items())])


def import_circles(trees: Mapping[str, ast.Module]) -> list[list[str]]:
    """Return the strongly connected groups of modules (Tarjan, 1972).

    Edges are imports that run when a module is loaded.
    """
    graph = {name: sorted(set(_imported(tree, trees)) - {name}) for name, tree in trees.items()}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in graph[name]:
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in number:
            visit(name)
    return found


def _imported(tree: ast.Module, known: Mapping[str, ast.Module]) -> Iterator[str]:
    """Yield the modules that are run when this one is loaded."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in known else node.module
            if name in known:
                yield name
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def repeated_classes(trees: Mapping[Path, ast.Module]) -> list[str]:
    """Return class names that occur more than once in the package."""
    counts = Counter(node.name for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef))
    return sorted(name for name, count in counts.items() if count > 1)


def traced_calls(index: Path) -> dict[str, set[str]]:
    """Return the modules that each traced call enters, by the call's name.

    The calls are a decision, a call, and a call through a cascade.
    """
    from semroute import Router
    from semroute.testing import FakeProvider

    with FakeProvider() as provider, TemporaryDirectory() as folder:
        names = ("small", "medium", "large")
        deployment = "  - {{name: {0}, model: {0}, provider: vllm, base_url: {1!r}}}\n"
        places = "".join(deployment.format(name, provider.base_url) for name in names)
        plain, cascading = Path(folder, "plain.yaml"), Path(folder, "cascading.yaml")
        plain.write_text(CONFIG + places, encoding="utf-8")
        cascading.write_text(
            CONFIG + places + f"cascade: {{tiers: [small, large]}}\nlog: {{url: 'sqlite:///{folder}/log.db'}}\n",
            encoding="utf-8",
        )
        routers = {path.stem: Router.load(index, config=path) for path in (plain, cascading)}
        plain_router, cascading_router = routers["plain"], routers["cascading"]
        calls: dict[str, Callable[[str], object]] = {
            "route": plain_router.route,
            "acomplete": lambda query: asyncio.run(plain_router.acomplete(query, model="small")),
            "acomplete with a cascade and a log": lambda query: asyncio.run(cascading_router.acomplete(query)),
        }
        found = {}
        for name, call in calls.items():
            call(QUERIES[0])
            with entered_modules() as modules:
                call(QUERIES[1])
            found[name] = set(modules)
        for router in routers.values():
            router.close()
        return found


@contextmanager
def entered_modules() -> Iterator[set[str]]:
    """Collect the modules of the package whose functions run, in any thread."""
    found: set[str] = set()
    root, apart = str(PACKAGE), str(PACKAGE / "testing")

    def enter(frame: FrameType, event: str, argument: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(root) and not file.startswith(apart):
            found.add(str(Path(file).relative_to(ROOT)))

    threading.setprofile(enter)
    sys.setprofile(enter)
    try:
        yield found
    finally:
        threading.setprofile(None)
        sys.setprofile(None)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _table(header: tuple[str, ...], rows: list[tuple[str, str]]) -> None:
    for row in (header, ("---",) * len(header), *rows):
        click.echo("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()

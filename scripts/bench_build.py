"""Measure builds and changes of an index, each in a separate process.

    python scripts/bench_build.py [--before CHECKOUT] [--rounds 3] [--out results.md]

The steps, all through the command line, start of the process included:

* *build*: the shipped categories into an empty folder; the encoder's graph is in the user's cache already.
* *rebuild*: the same again into the same folder.
* *one more*: again, after one example was added to a category file.
* *120 examples*: twelve categories of ten of the shipped examples each, into an empty folder.
* *add three*: ``semroute add code`` with three sentences, to the shipped categories' index.
* *1,000 of 4*: a thousand categories of four made-up sentences, into an empty folder.

With ``--before``, the package of another checkout takes turns with this one, so that other load on the machine affects
both. Medians of wall time, and of CPU time of the process, which a busy machine changes less.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import yaml
from harness.processes import ROOT, Taken, semroute
from harness.report import BEFORE, OUT, head, publish, row

KINDS = ("wall", "cpu")
SENTENCES = ("undo the last three commits in git", "why does my go channel block", "mock a clock in a rust test")
ONE_MORE = "which of two sorts is stable, and does it matter here"
NOUNS = ("invoice", "parcel", "router", "holiday", "payslip", "printer", "garden", "ticket", "lesson", "battery")
VERBS = ("cancel", "find", "repair", "explain", "order", "return", "compare", "renew", "measure", "forward")
PLACES = ("Oslo", "Lima", "Cairo", "Delhi", "Perth", "Quito", "Turin", "Kyoto", "Dakar", "Tampa")


def write_few(folder: Path) -> Path:
    """Write the first ten examples of each shipped category."""
    folder.mkdir()
    for path in sorted((ROOT / "categories").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        few = {**content, "examples": content["examples"][:10]}
        (folder / path.name).write_text(yaml.safe_dump(few, allow_unicode=True), encoding="utf-8")
    return folder


def write_thousand(folder: Path) -> Path:
    """Write a thousand categories of four sentences each.

    A category is a combination of a verb, a noun and a place.
    """
    folder.mkdir()
    for number in range(1000):
        noun, verb, place = NOUNS[number % 10], VERBS[number // 10 % 10], PLACES[number // 100]
        lines = (
            f"{verb} the {noun} in {place}",
            f"can somebody in {place} {verb} a {noun} for me",
            f"{noun}: whom do I ask to {verb} it, I live near {place}",
            f"what does it cost to {verb} my {noun} around {place}",
        )
        (folder / f"{verb}_{noun}_{place.lower()}.txt").write_text("\n".join(lines) + "\n")
    return folder


def one_round(checkout: Path, work: Path, note: Callable[[str], None]) -> dict[str, Taken]:
    """Run every step once."""
    work.mkdir()
    source, index = work / "categories", work / "index"
    shutil.copytree(ROOT / "categories", source)
    taken = {}

    def step(name: str, *arguments: str) -> None:
        taken[name] = semroute(*arguments, checkout=checkout)
        note(f"{checkout.name}: {name} {taken[name].wall:.1f} s")

    step("build", "build-index", str(source), "--out", str(index))
    step("rebuild", "build-index", str(source), "--out", str(index))
    step("add three", "add", "code", *SENTENCES, "--index", str(index))
    semroute("build-index", source, "--out", index, checkout=checkout)
    with (source / "code.yaml").open("a", encoding="utf-8") as file:
        file.write(f"  - {ONE_MORE}\n")
    step("one more", "build-index", str(source), "--out", str(index))
    step("120 examples", "build-index", str(write_few(work / "few")), "--out", str(work / "few-index"))
    step("1,000 of 4", "build-index", str(write_thousand(work / "many")), "--out", str(work / "many-index"))
    shutil.rmtree(work)
    return taken


def table(names: Sequence[str], rounds: Sequence[Sequence[dict[str, Taken]]]) -> Iterator[str]:
    """Yield a Markdown table of medians.

    ``rounds`` has the rounds of each checkout.
    """
    yield from head("step", *(f"{name}: {kind}" for name in names for kind in ("wall s", "CPU s")))
    for step in rounds[0][0]:
        taken = [[one[step] for one in done] for done in rounds]
        yield row(step, *(f"{median(getattr(one, kind) for one in done):.1f}" for done in taken for kind in KINDS))


@click.command()
@BEFORE
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@OUT
def main(before: Path | None, rounds: int, out: Path | None) -> None:
    """Measure builds and changes of an index."""
    checkouts = {"before": before.resolve()} if before is not None else {}
    checkouts["now"] = ROOT
    found: dict[str, list[dict[str, Taken]]] = {name: [] for name in checkouts}
    with TemporaryDirectory(prefix="semroute-bench-") as folder:
        for checkout in checkouts.values():  # the graph goes into the user's cache, bytecode next to the sources
            few = write_few(Path(folder) / "warm")
            semroute("build-index", few, "--out", Path(folder) / "warm-index", checkout=checkout)
            shutil.rmtree(few)
        for number in range(rounds):
            for name, checkout in checkouts.items():
                work = Path(folder) / f"{name}-{number}"
                found[name].append(one_round(checkout, work, lambda line: click.echo(line, err=True)))
    publish(table(list(found), list(found.values())), out)


if __name__ == "__main__":
    main()

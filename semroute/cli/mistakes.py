"""List wrongly decided queries in a file, in JSON and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from semroute.categories import LabelledQuery
    from semroute.evaluate.semantic import Mistake
    from semroute.index import Artifact
    from semroute.types import Encoder

SHOWN = 10
"""On a terminal; --errors and --json have all."""


def _writable(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuse an unwritable file before minutes are spent."""
    if value is not None and (value.is_dir() or not value.absolute().parent.is_dir()):
        raise click.BadParameter(
            f"{value} cannot be written: name a file in a folder that is there", context, parameter
        )
    return value


errors_option = click.option(
    "--errors",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=_writable,
    help="Write the queries that were wrong to this file, as JSONL.",
)
"""``errors: Path | None``."""


def mistake_dicts(
    mistakes: Sequence[Mistake], rows: Sequence[LabelledQuery], artifact: Artifact, encoder: Encoder
) -> list[dict[str, Any]]:
    """Convert wrong queries to JSON-ready values with nearest examples.

    None stands for out of scope.

    Raises:
        ArtifactError: the stored examples cannot be read.
    """
    from semroute.router.explain import nearest_to_each

    found = nearest_to_each(artifact, encoder, [rows[mistake.row].query for mistake in mistakes])
    return [
        {
            "line": rows[mistake.row].line,
            "query": rows[mistake.row].query,
            "true": mistake.true,
            "decided": mistake.decided,
            "score": mistake.score,
            "threshold": mistake.threshold,
            "nearest": asdict(nearest[0]),
        }
        for mistake, nearest in zip(mistakes, found, strict=True)
    ]


def write_errors(path: Path, errors: Sequence[Mapping[str, Any]]) -> None:
    """Write wrong queries atomically, one a line.

    Raises:
        InputError: it cannot be written.
    """
    from semroute.cli.console import print_note
    from semroute.errors import InputError
    from semroute.whole import atomic_write, json_line

    try:
        with atomic_write(path) as part:
            part.write_text("".join(json_line(error) + "\n" for error in errors), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    print_note(f"{len(errors):,} wrong queries are in {path}")


def print_errors(errors: Sequence[Mapping[str, Any]], count: int) -> None:
    """Print the first wrong queries with their nearest examples.

    Args:
        errors: the first of them, :data:`SHOWN` at most are printed.
        count: how many there are.
    """
    from rich.text import Text

    from semroute.categories.notes import shortened
    from semroute.cli.console import print_words, stdout

    if not count:
        return
    console = stdout()
    console.print()
    console.print(Text("wrong queries", style="bold"))
    for error in errors[:SHOWN]:
        true, decided = (error[key] or "out of scope" for key in ("true", "decided"))
        sign = "\u2265" if error["score"] >= error["threshold"] else "<"
        verdict = f"{error['score']:.3f} {sign} {error['threshold']:.3f}"
        print_words(console, Text.assemble((true, "cyan"), " \u2192 ", (decided, "red"), (f"  {verdict}", "dim")))
        nearest = error["nearest"]
        print_words(console, Text(f"  {shortened(error['query'], 70)}"))
        near = f"  nearest {nearest['similarity']:.3f}  {nearest['category']}: {shortened(nearest['query'], 50)}"
        print_words(console, Text(near, style="dim"), indent=4)
    if count > SHOWN:
        console.print(Text(f"\u2026 and {count - SHOWN:,} more; --errors FILE and --json have all", style="dim"))

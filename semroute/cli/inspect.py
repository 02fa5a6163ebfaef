"""``semroute inspect``: what an index holds, and which of its categories overlap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, index_option, json_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from semroute.index import Artifact, FirstStageEntry, Manifest
    from semroute.learn.overlapping import NamedOverlap

SHOWN = 5
"""Pairs shown on a terminal; --json has all."""


@click.command()
@index_option
@config_option
@json_option
def inspect(index: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Show what an index holds, which categories overlap, and which examples cause it.

    An example lies in another category when its nearest neighbour there is nearer than the nearest of its own.
    """
    from semroute.cli.console import print_json
    from semroute.cli.manifests import manifest_dict
    from semroute.cli.routers import any_artifact
    from semroute.learn.overlapping import overlapping

    artifact = any_artifact(index, config_path)
    pairs = overlapping(artifact)
    if as_json:
        print_json({**manifest_dict(artifact), "overlaps": [overlap_dict(pair) for pair in pairs]})
    else:
        _print(artifact, pairs)


def overlap_dict(pair: NamedOverlap) -> dict[str, object]:
    """A pair of overlapping categories as JSON-ready values."""
    worst = [{"query": w.query, "own_similarity": w.own, "similarity": w.other, "nearest": w.rival} for w in pair.worst]
    return {
        "category": pair.category,
        "other": pair.other,
        "share": pair.share,
        "count": pair.count,
        "worst": worst,
    }


def _print(artifact: Artifact, pairs: list[NamedOverlap]) -> None:
    from semroute.cli.console import stdout
    from semroute.cli.tables import category_table

    console = stdout()
    console.print(_facts(artifact))
    console.print()
    console.print(category_table(artifact.manifest))
    console.print()
    for part in _overlaps(pairs):
        console.print(part)


def _facts(artifact: Artifact) -> RenderableType:
    from semroute.cli.manifests import bytes_of, validated
    from semroute.cli.tables import figures, size

    manifest = artifact.manifest
    encoder = f"{manifest.encoder.get('name')} ({manifest.encoder.get('kind')}, {manifest.dimensions} dimensions)"
    rows = {
        "index": str(artifact.folder),
        "created": f"{manifest.created}, semroute {manifest.built_with}",
        "size": size(bytes_of(artifact)),
        "encoder": encoder,
        "scores": f"{1 - manifest.weight:.0%} similarity, {manifest.weight:.0%} {manifest.head or 'no'} head",
        "validation": validated(manifest),
        "held_out": held_out(manifest),
    }
    if manifest.first_stage is not None:
        rows["first_stage"] = first_stage(manifest.first_stage)
    note = manifest.validation.get("note")
    return figures(**rows, **({"note": str(note)} if note else {}))


def first_stage(entry: FirstStageEntry) -> str:
    """The first stage's encoder, scores and figures."""
    from semroute.cli.manifests import first_stage_figures

    encoder = f"{entry.encoder.get('name')} ({entry.encoder.get('kind')}, {entry.dimensions} dimensions)"
    scores = f"{1 - entry.weight:.0%} similarity, {entry.weight:.0%} {entry.head or 'no'} head"
    return f"{encoder}; {scores}; {first_stage_figures(entry)}"


def held_out(manifest: Manifest) -> str:
    """The figures that the build measured on held-out examples."""
    from semroute.cli.tables import number, percent

    report = manifest.validation
    return (
        f"accuracy {percent(report.get('accuracy_in_scope'))} · "
        f"false rejection {percent(report.get('false_rejection'))} · ECE {number(report.get('ece'))}"
    )


def _overlaps(pairs: list[NamedOverlap]) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    from semroute.cli.tables import percent

    if not pairs:
        return [Text("no categories overlap: each example is nearest to another one of its own", style="green")]
    parts: list[RenderableType] = [Text("overlaps", style="bold")]
    for pair in pairs[:SHOWN]:
        where = f"of {pair.category} ({pair.count:,}) lie in {pair.other}"
        parts.append(Text.assemble((f"{percent(pair.share):>6} ", "yellow"), where))
        parts.append(Padding(_worst(pair), (0, 0, 0, 7), expand=False))
    if len(pairs) > SHOWN:
        parts.append(Text(f"… and {len(pairs) - SHOWN} smaller ones; --json has all", style="dim"))
    return parts


def _worst(pair: NamedOverlap) -> RenderableType:
    from semroute.categories.notes import shortened
    from semroute.cli.layout import Column
    from semroute.cli.tables import DataTable

    texts = Column("example", "words"), Column(f"nearest in {pair.other}", "words")
    table = DataTable(Column("there"), Column("own"), *texts)
    for stray in pair.worst:
        shown = (shortened(text, 120) for text in (stray.query, stray.rival))
        table.add_row(f"{stray.other:.3f}", f"{stray.own:.3f}", *shown)
    return table

"""Commands that build, change and inspect an index.

``semroute build-index``, ``semroute inspect``, and ``semroute add`` and ``semroute remove``, which change an index
without embedding its examples again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semroute.cli.console import NameChoice, NumberRange, config_option, index_option, json_option, seed_option
from semroute.cli.tables import percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from semroute.config import Config
    from semroute.data.examples import Finding, LabelledQuery
    from semroute.index import Artifact, FirstStageEntry, Manifest
    from semroute.learn.build import Built, EncoderChoice
    from semroute.learn.update import Changed, NamedOverlap
    from semroute.types import Encoder


@click.command()
@click.argument("category")
@click.argument("file_or_text", nargs=-1, required=True)
@click.option("--description", metavar="TEXT", help="What belongs in the category.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME", help="A model that serves it; repeat, cheapest first."
)
@index_option
@config_option
@json_option
def add(
    category: str,
    file_or_text: tuple[str, ...],
    description: str | None,
    models: tuple[str, ...],
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Add examples to CATEGORY, or make it.

    Each FILE_OR_TEXT is a .txt, .jsonl, .csv or .yaml file of examples, or an example itself. Only new examples are
    embedded, and a few beside many are fitted in without fitting all anew. The category files are not touched: add the
    examples there too, or the next build will not know them.
    """
    from semroute.cli.console import progress_bars
    from semroute.learn.update import add_examples

    texts = [text for word in file_or_text for text in _texts(word, category)]
    artifact, encoder = _opened(index, config_path)
    with progress_bars() as progress:
        changed = add_examples(
            artifact, encoder, category, texts, description=description, models=models or None, progress=progress
        )
    _print_change(changed, category, as_json=as_json)


@click.command()
@click.argument("category")
@click.option("--example", "examples", multiple=True, metavar="TEXT", help="Remove only this example; repeatable.")
@index_option
@config_option
@json_option
def remove(
    category: str, examples: tuple[str, ...], index: Path | None, config_path: Path | None, as_json: bool
) -> None:
    """Remove CATEGORY from the index, or some of its examples. Nothing is embedded, and no category file touched."""
    from semroute.cli.console import progress_bars
    from semroute.learn.update import remove_category, remove_examples

    artifact, encoder = _opened(index, config_path)
    with progress_bars() as progress:
        if examples:
            changed = remove_examples(artifact, encoder, category, examples, progress=progress)
        else:
            changed = remove_category(artifact, encoder, category, progress=progress)
    _print_change(changed, category, as_json=as_json)


def _texts(word: str, category: str) -> Sequence[str]:
    """Return the examples of a file, or the argument itself as an example."""
    from semroute.data.categories import READERS, read_category_file
    from semroute.data.examples import Notes, combined, way_on
    from semroute.errors import DataError

    path = Path(word)
    if path.suffix.lower() not in READERS and len(word.split()) == 1 and path.suffix and _exists(path):
        raise DataError(f"a file of examples is one of {', '.join(READERS)}; {way_on(path)}", path=path)
    # "fix my main.txt" is an example; a single word with a file's suffix is a file, whether it exists or not.
    if path.suffix.lower() not in READERS or (len(word.split()) > 1 and not _exists(path)):
        return [word]
    notes = Notes(path)
    content = read_category_file(path, notes, category)
    if notes.problems:
        raise combined(notes.problems)
    return [example.text for example in content.examples]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than any path, or with a NUL in it
        return False


def _opened(index: Path | None, config_path: Path | None) -> tuple[Artifact, Encoder]:
    from semroute.cli.encoding import own_artifact
    from semroute.config import load_config
    from semroute.router.load import open_encoder

    config = load_config(config_path)
    artifact = own_artifact(index, config)
    return artifact, open_encoder(artifact, config.encoder)


def _print_change(changed: Changed, category: str, *, as_json: bool) -> None:
    from semroute.cli.console import print_json, print_line, print_warning
    from semroute.data.examples import shortened
    from semroute.text.names import normalize_name

    if as_json:
        print_json(_as_dict(changed))
        return
    for text in changed.skipped:
        print_warning(f"{shortened(text)} is an example of {category} already")
    for text, other in changed.elsewhere:
        print_warning(f"{shortened(text)} is an example of {other} too; keep it where it belongs")
    if changed.untuned:
        count = len(changed.untuned)
        print_warning(f'{count} tuned thresholds are back to those of held-out examples; run "semroute tune" again')
    if changed.first_stage_lost:
        print_warning(left_out(changed.artifact.manifest))
    category = normalize_name(category.strip())
    entry = changed.artifact.manifest.categories.get(category)
    now = "is gone" if entry is None else f"has {entry.examples:,} examples, threshold {entry.threshold:.3f}"
    print_line(f"{changed.added:,} added, {changed.removed:,} removed: {category} {now} ({changed.artifact.folder})")


def _as_dict(changed: Changed) -> dict[str, object]:
    return {
        "added": changed.added,
        "removed": changed.removed,
        "skipped": list(changed.skipped),
        "elsewhere": [{"query": text, "category": category} for text, category in changed.elsewhere],
        "untuned": list(changed.untuned),
        "first_stage_lost": changed.first_stage_lost,
        "artifact": manifest_dict(changed.artifact),
    }


# ``semroute inspect``: contents of an index, and its overlapping categories.

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
    from semroute.cli.encoding import any_artifact
    from semroute.learn.update import overlapping

    artifact = any_artifact(index, config_path)
    pairs = overlapping(artifact)
    if as_json:
        print_json({**manifest_dict(artifact), "overlaps": [overlap_dict(pair) for pair in pairs]})
    else:
        _print_artifact(artifact, pairs)


def overlap_dict(pair: NamedOverlap) -> dict[str, object]:
    """Return a pair of overlapping categories as JSON-ready values."""
    worst = [{"query": w.query, "own_similarity": w.own, "similarity": w.other, "nearest": w.rival} for w in pair.worst]
    return {
        "category": pair.category,
        "other": pair.other,
        "share": pair.share,
        "count": pair.count,
        "worst": worst,
    }


def _print_artifact(artifact: Artifact, pairs: list[NamedOverlap]) -> None:
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
    """Return the first stage's encoder, scores and figures as text."""

    encoder = f"{entry.encoder.get('name')} ({entry.encoder.get('kind')}, {entry.dimensions} dimensions)"
    scores = f"{1 - entry.weight:.0%} similarity, {entry.weight:.0%} {entry.head or 'no'} head"
    return f"{encoder}; {scores}; {first_stage_figures(entry)}"


def held_out(manifest: Manifest) -> str:
    """Return the build's figures on held-out examples as text."""
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
    from semroute.cli.layout import Column
    from semroute.cli.tables import DataTable
    from semroute.data.examples import shortened

    texts = Column("example", "words"), Column(f"nearest in {pair.other}", "words")
    table = DataTable(Column("there"), Column("own"), *texts)
    for stray in pair.worst:
        shown = (shortened(text, 120) for text in (stray.query, stray.rival))
        table.add_row(f"{stray.other:.3f}", f"{stray.own:.3f}", *shown)
    return table


# A manifest as JSON-ready values, and as sentences.


def manifest_dict(artifact: Artifact) -> dict[str, object]:
    """Return the contents of an artifact, without probes and hashes."""
    manifest = artifact.manifest
    return {
        "path": str(artifact.folder),
        "bytes": bytes_of(artifact),
        "created": manifest.created,
        "built_with": manifest.built_with,
        "encoder": dict(manifest.encoder),
        "dimensions": manifest.dimensions,
        "head": manifest.head,
        "weight": manifest.weight,
        "categories": {name: asdict(entry) for name, entry in manifest.categories.items()},
        "validation": dict(manifest.validation),
        "first_stage": None if manifest.first_stage is None else first_stage_dict(manifest.first_stage),
    }


def first_stage_dict(entry: FirstStageEntry) -> dict[str, object]:
    """Return a first stage as JSON-ready values, without probes."""
    return {
        "encoder": dict(entry.encoder),
        "dimensions": entry.dimensions,
        "prototypes": dict(entry.prototypes),
        "head": entry.head,
        "weight": entry.weight,
        "bar": entry.bar,
        "floor": entry.floor,
        "validation": dict(entry.validation),
    }


def first_stage_figures(entry: FirstStageEntry) -> str:
    """Return a first stage's figures on its validation queries as text."""
    report = entry.validation
    slips = report.get("slips")
    return (
        f"answers {percent(report.get('answered'))} of {_chosen_on(report)} from a bar of {entry.bar:.3f} on; accuracy "
        f"{percent(report.get('accuracy_in_scope'))} with it, {percent(report.get('accuracy_without'))} without"
        + ("" if slips is None else f"; {percent(slips)} of out of scope slip past")
    )


def left_out(manifest: Manifest) -> str:
    """Return the reason why a requested first stage was left out."""
    report = manifest.validation.get("first_stage_left_out", {})
    if not report.get("queries"):
        return "too few examples to choose the bar of a first stage on: it was left out"
    share = percent(report.get("answered"))
    return f"a first stage could answer only {share} of {_chosen_on(report)} without harm: it was left out"


def _chosen_on(report: Mapping[str, object]) -> str:
    kind = "validation queries" if report.get("chosen_on") == "validation" else "held-out examples"
    count = report.get("queries", 0)
    return f"{count:,} {kind}" if isinstance(count, int) else f"an unknown number of {kind}"


def bytes_of(artifact: Artifact) -> int:
    """Return the size of the artifact's files on disk, in bytes."""
    return sum(path.stat().st_size for path in set(artifact.files.values()))


def validated(manifest: Manifest) -> str:
    """Return the validation method of the build, in one sentence."""
    report = manifest.validation
    held = report.get("held_out")
    if not held:
        return "too few examples to hold any out: nothing was validated, the thresholds are a guess"
    prototypes = report.get("prototypes_per_category")
    head = f"{percent(manifest.weight)} head" if manifest.head else "no head"
    count = report.get("examples", 0)
    groups = report.get("groups", count)
    alike = "" if groups == count else f" that differ ({count:,} in all)"
    examples = f"validated on {held:,} of {groups:,} examples{alike}"
    return f"{examples}; prototypes per category: {prototypes}; {head}{changed(manifest)}"


def changed(manifest: Manifest) -> str:
    """Return the number of examples changed since the last full fit as text.

    Empty if there are none.
    """
    count = manifest.validation.get("changed_since_full_fit")
    if not isinstance(count, int) or count == 0:
        return ""
    return f'; {count:,} examples changed since the last full fit, "semroute build-index" makes one'


# ``semroute build-index``: an index from a folder of category files.


class EncoderType(NameChoice):
    """Choice among the built-in kinds of encoders, and those of plugins."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return a built-in kind, or the ``NAME:ARGUMENT`` of an installed plugin."""
        if value in self.choices:
            return super().convert(value, param, ctx)
        from semroute.encoders.plugin import check_encoder
        from semroute.plugins import Plugins

        problem = check_encoder(str(value), Plugins())
        if problem is not None:
            self.fail(problem, param, ctx)
        return str(value)


OF_A_KIND = 10
"""Warnings printed of one kind: a thousand categories of four examples have a thousand."""


@click.command()
@click.argument("categories", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="PATH", help="Folder to write (default: .semroute/index)."
)
@click.option(
    "--encoder",
    type=EncoderType(["onnx", "torch", "static", "remote"]),
    metavar="[onnx|torch|static|remote|NAME:ARGUMENT]",
    help="onnx (default): int8, exported here; torch: as it is; static: distilled here; remote: an embeddings endpoint;"
    ' NAME:ARGUMENT: of a plugin. Left out, what "encoder" in the configuration names.',
)
@click.option(
    "--model", metavar="NAME", help="sentence-transformers model by name or folder, or the remote one's name."
)
@click.option("--base-url", metavar="URL", help="Address of the remote encoder, such as https://api.openai.com/v1.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable with the remote encoder's key.")
@click.option("--tune-encoder", is_flag=True, help="Tune the encoder on the examples first (minutes).")
@click.option("--no-head", is_flag=True, help="Score by prototypes alone, without a trained head.")
@click.option(
    "--first-stage",
    is_flag=True,
    help='A static encoder answers what it is sure of, if that pays (extra "static").',
)
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Labelled queries, out-of-scope ones among them, to set thresholds and confidence by.",
)
@click.option(
    "--oos-recall",
    type=NumberRange(0, 1),
    default=0.9,
    show_default=True,
    help="Share of out-of-scope queries to reject, with --validation.",
)
@click.option("--fresh", is_flag=True, help="Take no vectors and no fit over from the index that is replaced.")
@seed_option
@config_option
@json_option
def build_index(
    categories: Path | None,
    out: Path | None,
    encoder: str | None,
    model: str | None,
    base_url: str | None,
    api_key_env: str | None,
    tune_encoder: bool,
    no_head: bool,
    first_stage: bool,
    validation: Path | None,
    oos_recall: float,
    fresh: bool,
    seed: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Build an index from a folder of category files, or from one labelled file.

    CATEGORIES is a folder of .yaml, .txt, .jsonl or .csv files, one a category (default: categories/ in this folder,
    else the categories that come with semroute), or a file of texts with labels as "semroute import" reads it. An index
    that is already there goes on serving until the new one is complete, and what it knows is not embedded again.
    """
    from semroute.cli.console import print_json, progress_bars
    from semroute.config import load_config
    from semroute.learn import build
    from semroute.learn.encoder import TuningPlan
    from semroute.learn.thresholds import RejectionTarget

    config = load_config(config_path)
    choice = _choice(encoder, model, base_url, api_key_env, config)
    source = _source(categories, quiet=as_json)
    rows = None if validation is None else _validation(validation, source)
    started = time.perf_counter()
    with progress_bars() as progress:
        built = build.build_index(
            source,
            out or config.index,
            encoder=choice,
            tune=TuningPlan(seed=seed) if tune_encoder else None,
            head=not no_head,
            first_stage=first_stage,
            validation=rows,
            target=RejectionTarget(oos_recall=oos_recall),
            config=config,
            seed=seed,
            fresh=fresh,
            progress=progress,
        )
    seconds = time.perf_counter() - started
    _warn(built, config, first_stage=first_stage)
    if as_json:
        print_json(as_dict(built, source, seconds))
    else:
        _print_build(built, seconds)


def _warn(built: Built, config: Config, *, first_stage: bool) -> None:
    from semroute.cli.console import print_warning
    from semroute.encoders.registry import config_line, is_named

    manifest = built.artifact.manifest
    for warning in capped(built.findings):
        print_warning(warning)
    if first_stage and manifest.first_stage is None:
        print_warning(left_out(manifest))
    line = config_line(manifest.encoder)
    if line is not None and not is_named(manifest.encoder, config.encoder):
        print_warning(f"this index serves only where semroute.yaml names its encoder; put this line into it: {line}")


def as_dict(built: Built, source: Path, seconds: float) -> dict[str, object]:
    """Return a finished build as JSON-ready values."""
    from semroute.cli.evaluate import report_dict

    return {
        **manifest_dict(built.artifact),
        "source": str(source),
        "seconds": seconds,
        "findings": [str(finding) for finding in built.findings],
        "tuned": None if built.tuned is None else report_dict(built.tuned),
    }


def capped(findings: Sequence[Finding]) -> list[str]:
    """Return the findings as lines, at most :data:`OF_A_KIND` of one kind.

    Findings are of one kind if they differ only in names, quotations and numbers.
    """
    from semroute.learn.near_twins import template_key

    kinds: dict[str, list[str]] = {}
    for finding in findings:
        kinds.setdefault(template_key(finding.message), []).append(str(finding))
    lines = []
    for kind in kinds.values():
        lines += kind[:OF_A_KIND]
        if len(kind) > OF_A_KIND:
            lines.append(f"... and {len(kind) - OF_A_KIND} more of this kind; --json lists all")
    return lines


def _choice(
    kind: str | None, model: str | None, base_url: str | None, api_key_env: str | None, config: Config
) -> EncoderChoice:
    from semroute.config.values import is_environment_name
    from semroute.learn.build import EncoderChoice

    if kind is None and model is None and base_url is None and api_key_env is None:
        return EncoderChoice.of(config)
    kind = kind or "onnx"
    if api_key_env is not None and not is_environment_name(api_key_env):
        raise click.UsageError("--api-key-env takes the name of an environment variable in capitals, and not the key")
    if kind not in ("onnx", "torch", "static", "remote"):
        if model is not None or base_url is not None or api_key_env is not None:
            raise click.UsageError("--model, --base-url and --api-key-env are not for the encoder of a plugin")
        return EncoderChoice(kind="plugin", model=kind, plugins=config.plugins)
    if kind == "remote" and (base_url is None or model is None):
        raise click.UsageError("--encoder remote needs --base-url and --model")
    if kind != "remote" and (base_url or api_key_env):
        raise click.UsageError("--base-url and --api-key-env are for --encoder remote")
    named = {} if model is None else {"model": model}
    return EncoderChoice(kind=kind, base_url=base_url, api_key_env=api_key_env, **named)  # type: ignore[arg-type]


def _source(categories: Path | None, *, quiet: bool) -> Path:
    from semroute.cli.console import print_note
    from semroute.data.categories import shipped_folder

    if categories is not None:
        return categories
    here = Path("categories")
    source = here if here.is_dir() else shipped_folder()
    if not quiet:
        print_note(f"categories from {source}" + ("" if source is here else ", which come with semroute"))
    return source


def _validation(path: Path, source: Path) -> list[LabelledQuery]:
    """Read the validation queries.

    A label without a category file is rejected now, not after the build.
    """
    from semroute.cli.console import print_warning
    from semroute.data.importing.writing import read_queries, read_source
    from semroute.learn.tune import label_numbers

    rows = read_queries(path, None, lambda finding: print_warning(str(finding)))
    label_numbers(rows, [category.name for category in read_source(source).categories], path)
    return rows


def _print_build(built: Built, seconds: float) -> None:
    from rich.text import Text

    from semroute.cli.console import print_words, stdout
    from semroute.cli.evaluate import CROSS_FITTED, figures_table
    from semroute.cli.tables import category_table, number, percent, size

    artifact, console = built.artifact, stdout()
    console.print(category_table(artifact.manifest))
    console.print()
    if built.tuned is not None:
        console.print(figures_table(built.tuned))
        console.print(Text(CROSS_FITTED, style="dim"))
        console.print()
    console.print(Text(validated(artifact.manifest), style="dim"))
    if artifact.manifest.first_stage is not None:
        console.print(Text(f"first stage: {first_stage_figures(artifact.manifest.first_stage)}"))
    report = artifact.manifest.validation
    console.print(
        Text("held-out accuracy ")
        + Text(percent(report.get("accuracy_in_scope")), style="bold")
        + f" · false rejection {percent(report.get('false_rejection'))} · ECE {number(report.get('ece'))}"
    )
    done = Text.assemble(
        ("built ", "green"), (str(artifact.folder), "bold"), f" in {seconds:.1f} s, {size(bytes_of(artifact))}"
    )
    print_words(console, done)

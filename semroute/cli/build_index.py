"""``semroute build-index``: from a folder of category files to an index."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import NameChoice, NumberRange, config_option, json_option, seed_option

OF_A_KIND = 10
"""Warnings of one kind that are printed: a thousand categories of four examples have a thousand."""

if TYPE_CHECKING:
    from semroute.categories import Finding, LabelledQuery
    from semroute.config import Config
    from semroute.learn.pipeline import Built, EncoderChoice


@click.command()
@click.argument("categories", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="PATH", help="Folder to write (default: .semroute/index)."
)
@click.option(
    "--encoder",
    type=NameChoice(["onnx", "torch", "static", "remote"]),
    help="onnx (default): int8, exported here; torch: as it is; static: distilled here; remote: an embeddings endpoint."
    ' Left out, what "encoder" in the configuration names.',
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
    from semroute.cli.console import print_json
    from semroute.cli.progress import progress_bars
    from semroute.config import load_config
    from semroute.learn import pipeline
    from semroute.learn.encoder_tuning import TuningPlan
    from semroute.learn.thresholds import RejectionTarget

    config = load_config(config_path)
    choice = _choice(encoder, model, base_url, api_key_env, config)
    source = _source(categories, quiet=as_json)
    rows = None if validation is None else _validation(validation, source)
    started = time.perf_counter()
    with progress_bars() as progress:
        built = pipeline.build_index(
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
        _print(built, seconds)


def _warn(built: Built, config: Config, *, first_stage: bool) -> None:
    from semroute.cli.console import print_warning
    from semroute.cli.manifests import left_out
    from semroute.encoders.spec import config_line, is_named

    manifest = built.artifact.manifest
    for warning in capped(built.findings):
        print_warning(warning)
    if first_stage and manifest.first_stage is None:
        print_warning(left_out(manifest))
    line = config_line(manifest.encoder)
    if line is not None and not is_named(manifest.encoder, config.encoder):
        print_warning(f"this index serves only where semroute.yaml names its encoder; put this line into it: {line}")


def as_dict(built: Built, source: Path, seconds: float) -> dict[str, object]:
    """A finished build as JSON-ready values."""
    from semroute.cli.manifests import manifest_dict
    from semroute.cli.tune import report_dict

    return {
        **manifest_dict(built.artifact),
        "source": str(source),
        "seconds": seconds,
        "findings": [str(finding) for finding in built.findings],
        "tuned": None if built.tuned is None else report_dict(built.tuned),
    }


def capped(findings: Sequence[Finding]) -> list[str]:
    """The findings as lines, at most :data:`OF_A_KIND` of those that differ only in names, quotations and numbers."""
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
    from semroute.learn.pipeline import EncoderChoice

    if kind is None and model is None and base_url is None and api_key_env is None:
        return EncoderChoice.of(config)
    kind = kind or "onnx"
    if api_key_env is not None and not is_environment_name(api_key_env):
        raise click.UsageError("--api-key-env takes the name of an environment variable in capitals, and not the key")
    if kind == "remote" and (base_url is None or model is None):
        raise click.UsageError("--encoder remote needs --base-url and --model")
    if kind != "remote" and (base_url or api_key_env):
        raise click.UsageError("--base-url and --api-key-env are for --encoder remote")
    named = {} if model is None else {"model": model}
    return EncoderChoice(kind=kind, base_url=base_url, api_key_env=api_key_env, **named)  # type: ignore[arg-type]


def _source(categories: Path | None, *, quiet: bool) -> Path:
    from semroute.categories import shipped_folder
    from semroute.cli.console import print_note

    if categories is not None:
        return categories
    here = Path("categories")
    source = here if here.is_dir() else shipped_folder()
    if not quiet:
        print_note(f"categories from {source}" + ("" if source is here else ", which come with semroute"))
    return source


def _validation(path: Path, source: Path) -> list[LabelledQuery]:
    """The labelled queries; a label that no category file bears is refused now, not after the build."""
    from semroute.categories.importing import read_queries, read_source
    from semroute.cli.console import print_warning
    from semroute.learn.tuning import label_numbers

    rows = read_queries(path, None, lambda finding: print_warning(str(finding)))
    label_numbers(rows, [category.name for category in read_source(source).categories], path)
    return rows


def _print(built: Built, seconds: float) -> None:
    from rich.text import Text

    from semroute.cli.console import print_words, stdout
    from semroute.cli.manifests import bytes_of, first_stage_figures, validated
    from semroute.cli.tables import category_table, number, percent, size
    from semroute.cli.tune import CROSS_FITTED, figures_table

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

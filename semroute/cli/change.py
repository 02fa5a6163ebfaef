"""``semroute add`` and ``semroute remove``: change an index without embedding what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import config_option, index_option, json_option

if TYPE_CHECKING:
    from semroute.index import Artifact
    from semroute.learn.change import Changed
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
    from semroute.cli.progress import progress_bars
    from semroute.learn.change import add_examples

    texts = [text for word in file_or_text for text in _texts(word, category)]
    artifact, encoder = _opened(index, config_path)
    with progress_bars() as progress:
        changed = add_examples(
            artifact, encoder, category, texts, description=description, models=models or None, progress=progress
        )
    _print(changed, category, as_json=as_json)


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
    from semroute.cli.progress import progress_bars
    from semroute.learn.change import remove_category, remove_examples

    artifact, encoder = _opened(index, config_path)
    with progress_bars() as progress:
        if examples:
            changed = remove_examples(artifact, encoder, category, examples, progress=progress)
        else:
            changed = remove_category(artifact, encoder, category, progress=progress)
    _print(changed, category, as_json=as_json)


def _texts(word: str, category: str) -> Sequence[str]:
    """The examples of a file, or the word itself."""
    from semroute.categories.foreign import way_on
    from semroute.categories.formats import READERS, read_category_file
    from semroute.categories.notes import Notes, combined
    from semroute.errors import DataError

    path = Path(word)
    if path.suffix.lower() not in READERS and len(word.split()) == 1 and path.suffix and _exists(path):
        raise DataError(f"a file of examples is one of {', '.join(READERS)}; {way_on(path)}", path=path)
    # "fix my main.txt" is an example; a lone word that ends like a file is one, there or not.
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
    from semroute.cli.routers import own_artifact
    from semroute.config import load_config
    from semroute.router.live import open_encoder

    config = load_config(config_path)
    artifact = own_artifact(index, config)
    return artifact, open_encoder(artifact, config.encoder)


def _print(changed: Changed, category: str, *, as_json: bool) -> None:
    from semroute.categories.notes import shortened
    from semroute.cli.console import print_json, print_line, print_warning
    from semroute.cli.manifests import left_out
    from semroute.texts.names import normalize_name

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
    from semroute.cli.manifests import manifest_dict

    return {
        "added": changed.added,
        "removed": changed.removed,
        "skipped": list(changed.skipped),
        "elsewhere": [{"query": text, "category": category} for text, category in changed.elsewhere],
        "untuned": list(changed.untuned),
        "first_stage_lost": changed.first_stage_lost,
        "artifact": manifest_dict(changed.artifact),
    }

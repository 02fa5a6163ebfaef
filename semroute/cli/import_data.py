"""``semroute import``: convert labelled data to category files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from semroute.cli.console import NameChoice, json_option, label_names_option, label_option, text_option

if TYPE_CHECKING:
    from semroute.data.importing.writing import Gathered, Written

MOST_SHOWN = 30
"""Categories shown in the table; --json has all."""


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE_OR_FOLDER")
@text_option
@label_option
@label_names_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    default=Path("categories"),
    show_default=True,
    help="Folder for the category files.",
)
@click.option("--force", is_flag=True, help="Replace category files that are already there.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--no-header", is_flag=True, help="The first line is a row: columns are called 1, 2, ...")
@click.option("--table", metavar="NAME", help="Which table of a JSON file that holds several.")
@click.option("--encoding", metavar="NAME", help="Of the file, such as cp1252 (default: UTF-8).")
@click.option(
    "--several",
    type=NameChoice(["skip", "first", "each"]),
    default="skip",
    show_default=True,
    help="Rows with several labels: leave out, take the first label, or put under each.",
)
@click.option(
    "--each", type=NameChoice(["line", "file"]), help="What is a text in a folder for each category (default: guess)."
)
@json_option
def import_data(
    source: Path,
    text: str | None,
    label: str | None,
    names: Path | None,
    out: Path,
    force: bool,
    dry_run: bool,
    no_header: bool,
    table: str | None,
    encoding: str | None,
    several: Literal["skip", "first", "each"],
    each: Literal["line", "file"] | None,
    as_json: bool,
) -> None:
    """Make category files from labelled data.

    \b
    Reads  .csv .tsv      with , ; tab or | between fields, Excel's exports
           .json .jsonl   rows; texts by category; routes (semantic-router, LiteLLM)
           .parquet       with the names that a data set brings along
           .yaml .yml     Rasa's nlu.yml; routes; texts by category
           .txt .md       fastText's __label__ lines; lists under headings
           a folder       a sub-folder or a file for each category
    each also as .gz. Not read: workbooks (.xlsx) - save them as CSV UTF-8.

    \b
    Examples:
      semroute import tickets.csv --text Description --label Group
      semroute import train.parquet --names dataset_info.json
      semroute import data/nlu.yml --out categories

    Columns are guessed where their names leave no doubt, and every guess is said.
    """
    from semroute.cli.console import print_json
    from semroute.data.importing.records import ImportOptions
    from semroute.workflows.importing import import_labelled_data

    options = ImportOptions(text, label, names, table, not no_header, encoding, several, each)
    made = import_labelled_data(source, out, options, force=force, write=not dry_run)
    if as_json:
        print_json(made.to_dict())
    else:
        _print(made.gathered, made.files, out, is_written=made.is_written)


def _print(gathered: Gathered, written: Written, out: Path, *, is_written: bool) -> None:
    from rich.text import Text

    from semroute.cli.console import print_note, print_warning, print_words, stdout
    from semroute.cli.tables import plain_table

    for guess in gathered.guesses:
        print_note(str(guess))
    for finding in (*gathered.skipped, *gathered.warnings):
        print_warning(str(finding))
    if written.others:
        count = len(written.others)
        print_warning(f"{out}: {count} other category file{'s' * (count != 1)} there; a build reads them as well")
    table = plain_table("examples")
    table.add_column("file", "name")
    for category in gathered.categories[:MOST_SHOWN]:
        file = written.files[category.name].name
        table.add_row(Text(category.name, style="cyan"), f"{len(category.examples):,}", file)
    console = stdout()
    console.print(table)
    if len(gathered.categories) > MOST_SHOWN:
        rest = len(gathered.categories) - MOST_SHOWN
        console.print(Text(f"... and {rest:,} more categories; --json has all", style="dim"))
    print_words(console, Text(_summary(gathered)))
    count = len(gathered.categories)
    if is_written:
        done = Text.assemble(("wrote ", "green"), f"{count:,} file{'s' * (count != 1)} to ", (str(out), "bold"))
        folder = "" if out == Path("categories") else f" {out}"
        print_words(console, done + f'; next: "semroute build-index{folder}"')
    else:
        console.print(Text("dry run: nothing was written", style="yellow"))


def _summary(gathered: Gathered) -> str:
    count = len(gathered.categories)
    noun = "category" if count == 1 else "categories"
    parts = [f"{gathered.rows:,} rows, {gathered.examples:,} examples in {count:,} {noun}"]
    if gathered.duplicates:
        parts.append(f"{gathered.duplicates:,} repeats left out")
    if gathered.shared:
        parts.append(f"{gathered.shared:,} in several categories")
    return "; ".join(parts)

"""``semroute config`` and ``init``: check or write ``semroute.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import config_option, index_option, json_option
from semroute.cli.main import SuggestingGroup

if TYPE_CHECKING:
    from semroute.workflows.configuration import ConfigCheck


@click.group(cls=SuggestingGroup)
def config() -> None:
    """Work with semroute.yaml."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
@index_option
@json_option
@click.pass_context
def check(
    context: click.Context, file: Path | None, config_path: Path | None, index: Path | None, as_json: bool
) -> None:
    """Validate a configuration and say what is missing.

    FILE is semroute.yaml of this folder unless another one is named, such as the policy.yaml of semroute tune-policy.
    Compares it with the categories of the index and with the environment. Exits with 1 when there is an error; warnings
    alone exit with 0.
    """
    from semroute.cli.console import print_json
    from semroute.workflows.configuration import check_configuration

    if file is not None and config_path is not None:
        raise click.UsageError("name the file once: FILE and --config are the same")
    checked = check_configuration(file or config_path, index)
    if as_json:
        print_json(checked.to_dict())
    else:
        _print_table(checked)
    context.exit(0 if checked.ok else 1)


def _print_table(checked: ConfigCheck) -> None:
    from rich.text import Text

    from semroute.cli.console import print_words, stdout
    from semroute.cli.layout import Column
    from semroute.cli.tables import DataTable

    if checked.problems:
        table = DataTable(Column("severity", "label"), Column("key", "name"), Column("problem", "words"))
        for problem in checked.problems:
            style = "red" if problem.severity == "error" else "yellow"
            where = problem.key if problem.line is None else f"{problem.key or checked.path.name} (line {problem.line})"
            table.add_row(Text(problem.severity, style=style), where, problem.text)
        stdout().print(table)
    words, style = ("valid", "green") if checked.ok else ("not usable yet", "red")
    verdict = Text(f"{checked.path}: {words}", style=style)
    print_words(stdout(), verdict)


# ``semroute init``: a configuration to start from.


@click.command()
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    default=Path("semroute.yaml"),
    show_default=True,
    help="The file, or the folder to write semroute.yaml in.",
)
def init(force: bool, path: Path) -> None:
    """Write a commented semroute.yaml to start from."""
    from semroute.cli.console import print_line
    from semroute.workflows.configuration import write_template

    path = write_template(path, force=force)
    print_line(f'wrote {path}; next: export OPENAI_API_KEY, or edit the deployments, then "semroute config check"')

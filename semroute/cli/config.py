"""``semroute config`` and ``init``: check or write ``semroute.yaml``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import config_option, index_option, json_option
from semroute.cli.main import SuggestingGroup
from semroute.errors import ConfigError
from semroute.storage import atomic_write

if TYPE_CHECKING:
    from semroute.config import Config, Problem


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

    if file is not None and config_path is not None:
        raise click.UsageError("name the file once: FILE and --config are the same")
    named = file or config_path
    path = named or Path("semroute.yaml")
    problems = _problems(path, index, is_named=named is not None)
    has_errors = any(problem.severity == "error" for problem in problems)
    if as_json:
        print_json({"path": str(path), "ok": not has_errors, "problems": [_as_dict(problem) for problem in problems]})
    else:
        _print_table(path, problems, has_errors)
    context.exit(1 if has_errors else 0)


def _problems(path: Path, index: Path | None, *, is_named: bool) -> Sequence[Problem]:
    from semroute.config import Config, Problem
    from semroute.config.load import read, validate, with_lines

    if not is_named and not path.exists():
        missing = Problem("error", "", "there is no semroute.yaml in this folder", 'write one with "semroute init"')
        return [missing, *_compared(Config(), index)]
    text = read(path)
    config, problems = validate(text, path.parent)
    return problems if config is None else with_lines(_compared(config, index), text)


def _compared(config: Config, index: Path | None) -> list[Problem]:
    """Compare the configuration with index, environment and price list."""
    from semroute.catalog.capabilities import check_catalog
    from semroute.config import Problem
    from semroute.config.check import check_config, check_routing
    from semroute.index.manifest import MANIFEST
    from semroute.router.load import locate_index
    from semroute.workflows.plugins import plugin_problems

    folder = locate_index(index, config)
    manifest = (config.index if folder is None else folder) / MANIFEST
    try:
        models, unreadable = _category_models(manifest), []
    except (OSError, ValueError) as error:
        models = None
        fix = "build the index again"
        unreadable = [Problem("warning", "index", f"{manifest} cannot be read ({type(error).__name__})", fix)]
    checking = check_config if config.deployments else check_routing
    checked = checking(config, category_models=models, env=os.environ)
    found = [
        *checked,
        *(_not_shipped(config) if folder is None else ()),
        *_classifiers(config),
        *_trial(config, models),
        *check_catalog(config),
        *_unnamed_encoder(config, manifest),
        *plugin_problems(config, models or {}),
        *unreadable,
    ]
    return sorted(found, key=lambda problem: problem.severity)  # "error" sorts before "warning"; stable otherwise


def _not_shipped(config: Config) -> list[Problem]:
    """Find unknown categories where no index exists.

    The categories are then those that are shipped.
    """
    from semroute.config.check import unknown_categories
    from semroute.data.categories import shipped_folder

    shipped = {path.stem: () for path in shipped_folder().glob("*.yaml")}
    return unknown_categories(config, shipped, "there is no index, and the shipped categories have none of that name")


def _classifiers(config: Config) -> list[Problem]:
    """Read the classifiers that a configuration names."""
    from semroute.predictors.answer_quality import check_classifiers
    from semroute.predictors.query_quality import check_query_classifier

    return [*check_classifiers(config), *check_query_classifier(config)]


def _trial(config: Config, models: Mapping[str, Sequence[str]] | None) -> Iterator[Problem]:
    """Yield problems of the policy under test.

    Applies it to the configuration and loads the files that it names, as a router does.
    """
    from semroute.config import Problem
    from semroute.config.check import NO_CATEGORY, unknown_categories
    from semroute.config.load import overlaid
    from semroute.errors import ConfigError

    policy = config.trial.policy
    if policy is None:
        return
    try:
        tried = overlaid(config, policy)
    except ConfigError as error:
        yield Problem("error", "trial.policy", str(error))
        return

    def problems_of(one: Config) -> list[Problem]:
        unknown = [] if models is None else unknown_categories(one, models, NO_CATEGORY)
        return [*unknown, *_classifiers(one)]

    known = problems_of(config)
    for problem in problems_of(tried):
        if problem not in known:
            yield Problem(problem.severity, "trial.policy", f"{policy}: {problem.key}: {problem.message}", problem.fix)


def _unnamed_encoder(config: Config, manifest: Path) -> Iterator[Problem]:
    """Yield an error if the index needs an encoder that is not configured.

    That is a remote or torch encoder.
    """
    from semroute.config import Problem
    from semroute.encoders.registry import config_line, is_named
    from semroute.storage import read_json

    try:
        described = read_json(manifest)["encoder"]
        line = config_line(described)
        if line is None or is_named(described, config.encoder):
            return
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # already reported
    kinds = {"remote": "a remote encoder", "plugin": "a plugin's encoder"}
    what = kinds.get(described["kind"], "a model on torch")
    yield Problem("error", "encoder", f"the index asks for {what} that is not named here", f"if you trust it: {line}")


def _category_models(manifest: Path) -> dict[str, list[str]] | None:
    """Return each category of an index with its models; None without an index.

    Raises:
        OSError, ValueError: the manifest exists, but cannot be read.
    """
    from semroute.storage import read_json

    try:
        document = read_json(manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    categories = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(categories, dict) or not all(isinstance(category, dict) for category in categories.values()):
        raise ValueError("not a manifest")
    return {name: [str(model) for model in category.get("models") or ()] for name, category in categories.items()}


def _as_dict(problem: Problem) -> dict[str, object]:
    return {
        "severity": problem.severity,
        "key": problem.key,
        "line": problem.line,
        "message": problem.message,
        "fix": problem.fix,
    }


def _print_table(path: Path, problems: Sequence[Problem], has_errors: bool) -> None:
    from rich.text import Text

    from semroute.cli.console import print_words, stdout
    from semroute.cli.layout import Column
    from semroute.cli.tables import DataTable

    if problems:
        table = DataTable(Column("severity", "label"), Column("key", "name"), Column("problem", "words"))
        for problem in problems:
            style = "red" if problem.severity == "error" else "yellow"
            where = problem.key if problem.line is None else f"{problem.key or path.name} (line {problem.line})"
            table.add_row(Text(problem.severity, style=style), where, problem.text)
        stdout().print(table)
    verdict = Text(f"{path}: {'not usable yet' if has_errors else 'valid'}", style="red" if has_errors else "green")
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
    from semroute.config.load import template

    if path.is_dir():
        path = path / "semroute.yaml"
    try:
        _write(path, template(), force)
    except FileExistsError:
        raise ConfigError("is already there; --force replaces it", path=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be written: {reason}", path=path) from error
    print_line(f'wrote {path}; next: export OPENAI_API_KEY, or edit the deployments, then "semroute config check"')


def _write(path: Path, text: str, force: bool) -> None:
    content = text.encode("utf-8")
    if force:  # an existing file survives a full disk
        with atomic_write(path) as part:
            part.write_bytes(content)
    else:
        with path.open("xb") as file:
            file.write(content)

"""Configuration checks, and a first configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semroute.cascade.checks import plugin_check
from semroute.catalog.capabilities import check_catalog
from semroute.config import Config, Problem
from semroute.config.check import NO_CATEGORY, cascades, check_config, check_routing, unknown_categories
from semroute.config.extensions import clashes
from semroute.config.load import overlaid, read, template, validate, with_lines
from semroute.config.values import dotted
from semroute.data.categories import shipped_folder
from semroute.encoders.plugin import check_encoder
from semroute.encoders.registry import config_line, is_named
from semroute.errors import ConfigError, SemrouteError
from semroute.index.manifest import MANIFEST
from semroute.predictors.answer_quality import check_classifiers
from semroute.predictors.query_quality import check_query_classifier
from semroute.providers import adapter_of
from semroute.router.load import ENVIRONMENT, locate_index
from semroute.router.requested import name_clashes
from semroute.storage import atomic_write, read_json
from semroute.strategies import Pool, StrategySetup
from semroute.strategies.base import plugin_strategy

DEFAULT = Path("semroute.yaml")


@dataclass(frozen=True, slots=True)
class ConfigCheck:
    """Problems of a configuration, errors first.

    Attributes:
        path: the file.
        problems: each with its severity, key, line and fix.
    """

    path: Path
    problems: Sequence[Problem]

    @property
    def ok(self) -> bool:
        """True if no problem is an error."""
        return all(problem.severity != "error" for problem in self.problems)

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {"path": str(self.path), "ok": self.ok, "problems": [_problem_dict(one) for one in self.problems]}


def _problem_dict(problem: Problem) -> dict[str, object]:
    return {
        "severity": problem.severity,
        "key": problem.key,
        "line": problem.line,
        "message": problem.message,
        "fix": problem.fix,
    }


def check_configuration(path: Path | None = None, index: Path | None = None) -> ConfigCheck:
    """Compare a configuration with index, environment and prices.

    Args:
        path: the file; None takes ``semroute.yaml`` of the working folder.
        index: folder of the index; None takes ``SEMROUTE_INDEX`` or the configuration's.

    Raises:
        ConfigError: the named file cannot be read.
    """
    if path is None and not DEFAULT.exists():
        missing = Problem("error", "", "there is no semroute.yaml in this folder", 'write one with "semroute init"')
        # A file that is missing names no deployments either: that is no second problem.
        others = [problem for problem in _compared(Config(), index) if problem.key != "deployments"]
        return ConfigCheck(DEFAULT, [missing, *others])
    named = path or DEFAULT
    text = read(named)
    config, problems = validate(text, named.parent)
    return ConfigCheck(named, problems if config is None else with_lines(_compared(config, index), text))


def _compared(config: Config, index: Path | None) -> list[Problem]:
    """Compare the configuration with index, environment and price list."""
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
        *_policies(config, models),
        *name_clashes(config, models or {}),
        *check_catalog(config),
        *_unnamed_encoder(config, manifest),
        *plugin_problems(config, models or {}),
        *unreadable,
        *_missing_index(index, folder),
    ]
    return sorted(found, key=lambda problem: problem.severity)  # "error" sorts before "warning"; stable otherwise


def _missing_index(index: Path | None, folder: Path | None) -> Iterator[Problem]:
    """Yield a problem if the named index is missing.

    An error where it is named for this run. A folder that only the configuration names may be built later.
    """
    if folder is None or (folder / MANIFEST).exists():
        return
    if index is not None or os.environ.get(ENVIRONMENT):
        by = "--index" if index is not None else ENVIRONMENT
        yield Problem("error", "", f"{by}: there is no index in {folder}", "name the folder of one, or build it there")
    else:
        yield Problem("warning", "index", f"there is no index in {folder} yet", 'build it with "semroute build-index"')


def _not_shipped(config: Config) -> list[Problem]:
    """Find unknown categories where no index exists.

    The categories are then those that are shipped.
    """
    shipped = {path.stem: () for path in shipped_folder().glob("*.yaml")}
    return unknown_categories(config, shipped, "there is no index, and the shipped categories have none of that name")


def _classifiers(config: Config) -> list[Problem]:
    """Read the classifiers that a configuration names."""
    return [*check_classifiers(config), *check_query_classifier(config)]


def _policies(config: Config, models: Mapping[str, Sequence[str]] | None) -> Iterator[Problem]:
    """Yield problems of the policy on trial, and of those with a name."""
    if config.trial.policy is not None:
        yield from _policy("trial.policy", config.trial.policy, config, models)
    for name, path in config.policies.items():
        yield from _policy(dotted(["policies", name]), path, config, models)


def _policy(key: str, policy: Path, config: Config, models: Mapping[str, Sequence[str]] | None) -> Iterator[Problem]:
    """Yield problems of a policy.

    Applies it to the configuration and loads the files that it names, as a router does.
    """
    try:
        tried = overlaid(config, policy, key=key)
    except ConfigError as error:
        yield Problem("error", key, str(error))
        return

    def problems_of(one: Config) -> list[Problem]:
        unknown = [] if models is None else unknown_categories(one, models, NO_CATEGORY)
        return [*unknown, *_classifiers(one)]

    known = problems_of(config)
    for problem in problems_of(tried):
        if problem not in known:
            yield Problem(problem.severity, key, f"{policy}: {problem.key}: {problem.message}", problem.fix)


def _unnamed_encoder(config: Config, manifest: Path) -> Iterator[Problem]:
    """Yield an error if the index needs an encoder that is not configured.

    That is a remote or torch encoder, or a plugin's.
    """
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
    try:
        document = read_json(manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    categories = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(categories, dict) or not all(isinstance(category, dict) for category in categories.values()):
        raise ValueError("not a manifest")
    return {name: [str(model) for model in category.get("models") or ()] for name, category in categories.items()}


# A configuration to start from.


def write_template(path: Path = DEFAULT, *, force: bool = False) -> Path:
    """Write a commented configuration to start from; return its file.

    Args:
        path: the file, or the folder to write ``semroute.yaml`` in.
        force: whether an existing file is replaced.

    Raises:
        ConfigError: the file exists already, or cannot be written.
    """
    if path.is_dir():
        path = path / DEFAULT
    content = template().encode("utf-8")
    try:
        if force:  # an existing file survives a full disk
            with atomic_write(path) as part:
                part.write_bytes(content)
        else:
            with path.open("xb") as file:
                file.write(content)
    except FileExistsError:
        raise ConfigError("is already there; --force replaces it", path=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be written: {reason}", path=path) from error
    return path


# Plugins that a configuration names, and those installed.


def plugin_problems(config: Config, category_models: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Return the problems of a configuration's plugins, and of installed ones.

    Errors: a strategy, check or adapter that cannot be made, as a router makes them; an encoder that cannot be imported
    (it is not made, which may take long). Warnings: an installed plugin that can never be used.

    Args:
        config: a valid configuration.
        category_models: each category of the index with its models; empty where there is no index to ask.
    """
    problems = []
    if config.encoder is not None and config.encoder.kind == "plugin":
        problem = check_encoder(config.encoder.model, config.encoder.plugins)
        problems += [] if problem is None else [Problem("error", "encoder", problem)]
    for key, made in _made(config, category_models):
        try:
            made()
        except SemrouteError as error:
            problems.append(Problem("error", key, str(error)))
    return [*problems, *clashes()]


def _made(config: Config, category_models: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the key of each plugin with a function that makes it."""
    models = {name: tuple(named) or config.fallback.models for name, named in category_models.items()}
    names = [*config.fallback.models, *(deployment.model for deployment in config.deployments)]
    pool = Pool(config.members, [*names, *(model for named in models.values() for model in named)])
    for name, section in config.plugin_strategies.items():
        setup = StrategySetup(name, pool, models)
        key = f"strategies.{config.strategies.index(name)}"
        yield key, partial(plugin_strategy, section.plugin, section.options, setup)
    for key, cascade in cascades(config).items():
        accepts = [("accept", cascade.accept), *((f"tiers.{n}.accept", t.accept) for n, t in enumerate(cascade.tiers))]
        for place, accept in accepts:
            for section in () if accept is None else accept.plugin_checks:
                where = dotted([*key.split("."), *place.split("."), section.plugin.name])
                yield where, partial(plugin_check, section.plugin, section.options)
    for position, deployment in enumerate(config.deployments):
        if deployment.plugin is not None:
            yield f"deployments.{position}.format", partial(adapter_of, deployment)

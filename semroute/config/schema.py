"""Schema of the whole ``semroute.yaml``.

Everything is optional: an empty file is a valid configuration. Numbers are numbers (no ``"60"``, no ``true``), names
are printable text, unknown keys are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from semroute.config.cascade import CascadeConfig, no_cascade
from semroute.config.conflicts import conflicts
from semroute.config.deployments import Deployment, Dollars, ModelSpec, Variable
from semroute.config.extensions import (
    BUILT_IN,
    PluginSection,
    plugin_section,
    plugins_of,
    with_strategies,
)
from semroute.config.resilience import BreakerRules, Hedging, Retries, Selection
from semroute.config.routing import DEFAULT_STRATEGIES, Classifier, Judge, Rule, Semantic, StrategyNames, named_folder
from semroute.config.values import (
    Name,
    Names,
    Number,
    Origin,
    Positive,
    Problem,
    Section,
    anchored,
    anchored_url,
    bad_value,
    file,
    folder,
    optional_file,
    optional_folder,
    state_address,
    web_address,
)
from semroute.plugins import Plugins

# Log of outcomes: address, redaction and retention. A section of ``semroute.yaml``.

FOREVER = "forever"
DEFAULT_URL = "sqlite:///.semroute/log.db"


def log_address(value: str, info: ValidationInfo) -> str:
    """Check the address of a database, which must not contain a password."""
    example = f'write it like "{DEFAULT_URL}" or "postgresql://semroute@db.internal/semroute"'
    if not value.isprintable() or " " in value:
        raise bad_value("must not hold spaces or control characters", example)
    try:
        parts = urlsplit(value)
        has_password = parts.password is not None or "password" in parts.query
    except ValueError:
        raise bad_value("is not an address", example) from None
    if has_password:
        raise bad_value("must not hold a password", "put it in a variable and name that in password_env")
    if parts.scheme not in ("sqlite", "postgresql"):
        raise bad_value("is neither a sqlite:// nor a postgresql:// address", example)
    if parts.scheme == "sqlite" and not parts.path.lstrip("/"):
        raise bad_value("names no file", example)
    try:
        return anchored_url(value, info)
    except RuntimeError:
        raise bad_value('starts with "~", but the home folder is not known', "write the whole path") from None


def _days(value: object) -> object:
    if value == FOREVER:
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:  # type: ignore[operator]
        raise bad_value(f'must be a number of days greater than 0, or "{FOREVER}"', "write it like 90")
    return float(value)  # type: ignore[arg-type]


def _spool(value: object, info: ValidationInfo) -> Path | Literal[False] | None:
    """Resolve the path of a spool, None, or false for none at all."""
    return False if value is False else optional_folder(value, info)


class Log(Section):
    """Log of outcomes: address, redaction and retention.

    Attributes:
        enabled: whether outcomes are logged; None: by the command line, and by the library only where it is asked to.
        url: ``sqlite:///`` and a file, relative to the folder of the file, or ``postgresql://`` for several replicas.
        password_env: environment variable with the password of PostgreSQL.
        text: redaction of queries: full, keyed hash, or none.
        answers: redaction of answers: full or none.
        keep_days: age at which an outcome is deleted, or ``forever``.
        spool: folder in which outcomes wait for the database, so that they outlive a process that is killed; false
            keeps them in memory, and so does None outside of the gateway, which takes ``.semroute/spool`` then.
    """

    enabled: bool | None = None
    url: Annotated[str, AfterValidator(log_address)] = DEFAULT_URL
    password_env: Variable | None = None
    text: Literal["full", "hashed", "none"] = "full"
    answers: Literal["full", "none"] = "none"
    keep_days: Annotated[float | Literal["forever"], PlainValidator(_days)] = 90.0
    spool: Annotated[Path | Literal[False] | None, BeforeValidator(_spool)] = None


# Experiment with a new policy. A section of ``semroute.yaml``.


class ExperimentConfig(Section):
    """Experiment: shadow or A/B test of a new policy.

    The new policy decides on every query too, and its decision is used for a share of them.

    Attributes:
        policy: a file with sections that override those of this file, such as the ``policy.yaml`` of ``semroute
            tune-policy``; None disables the experiment.
        share: share of the queries that it decides, 0 to 1; for the others its decision is only logged.
        state: file in which ``semroute trial share`` stores another share for running routers; it overrides ``share``.
        judge: model or group that compares the answers of both policies, blind; None compares none.
        max_usd: USD that the comparisons of this trial may cost in all, the other answers and the judge together.
        compare: share of the requests for which the policies choose different models that is compared, 0 to 1.
    """

    policy: Annotated[Path | None, BeforeValidator(optional_file)] = None
    share: Annotated[Number, Field(ge=0, le=1)] = 0.0
    state: Annotated[Path, BeforeValidator(file)] = Path(".semroute/trial.json")
    judge: Name | None = None
    max_usd: Positive | None = None
    compare: Annotated[Number, Field(ge=0, le=1)] = 1.0


# Named encoder, which is not part of the index's files: a section of ``semroute.yaml``.


def _of_file(model: str, info: ValidationInfo) -> str:
    """Resolve a torch model's name, or its folder relative to the file."""
    path = anchored(Path(model), info)
    return str(path) if info.data.get("kind") == "torch" and path.is_dir() else model


class NamedEncoder(Section):
    """Remote embeddings endpoint, or sentence-transformers model on torch.

    An index is data that may come from anyone. One that asks for an encoder of these kinds is refused unless the
    configuration names the same: a remote one receives every query, and the key that the variable holds; a torch model
    is looked up by name or path.

    An encoder of a plugin is its ``name:argument`` in place of the section: it is a program of another package.

    Attributes:
        kind: ``remote``, ``torch`` or ``plugin``.
        model: the server's name of the model; or a name on the Hugging Face hub, or a folder, relative
            to that of the file; or the plugin's ``name:argument``.
        base_url: of the endpoint, up to and including the version.
        api_key_env: the environment variable with its key; None sends none.
    """

    kind: Literal["remote", "torch", "plugin"]
    model: Annotated[Name, AfterValidator(_of_file)]
    base_url: Annotated[str, AfterValidator(web_address)] | None = None
    api_key_env: Variable | None = None
    _plugins: Plugins = PrivateAttr(default_factory=Plugins)

    def model_post_init(self, context: Any) -> None:
        """Record the plugins among which it is looked up when it is opened."""
        self._plugins = plugins_of(context)

    @property
    def plugins(self) -> Plugins:
        """Plugins that it may name."""
        return self._plugins

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        named = self.model.partition(":")[0]
        if self.kind == "plugin" and named in BUILT_IN["encoders"]:
            message = f'"{named}" is a built-in kind of encoder, and no plugin'
            raise bad_value(message, f'write "{{kind: {named}, model: …}}"', key="model")
        if self.kind == "remote" and self.base_url is None:
            raise bad_value("is missing", 'write it like "https://api.openai.com/v1"', key="base_url")
        for key in ("base_url", "api_key_env"):
            if self.kind != "remote" and getattr(self, key) is not None:
                raise bad_value("is for a remote encoder", "remove it, or write kind: remote", key=key)
        return self


def named_encoder(value: object) -> object:
    """Expand the ``name:argument`` of a plugin to a section."""
    return {"kind": "plugin", "model": value} if isinstance(value, str) else value


DEFAULT_INDEX = Path(".semroute/index")
"""Default folder of the index."""


class CategoryOverride(Section):
    """Overrides of a category's own file.

    ``threshold`` is None where the built threshold holds; 0.0 is a threshold like any other. ``cascade`` replaces the
    general one; None takes that, and false is none at all. ``wants`` are fields in which its queries
    want a strong model, as ``models.NAME.strengths`` has them.
    """

    models: Names | None = None
    threshold: Annotated[Number, Field(ge=-1, le=1)] | None = None
    cascade: Annotated[CascadeConfig | None, BeforeValidator(no_cascade)] = None
    wants: Annotated[tuple[Name, ...], Field(strict=False)] = ()


class Fallback(Section):
    """Fallback models for queries that fit no category, in order."""

    models: Names = ("large",)

    @property
    def is_written(self) -> bool:
        """True if the file names the models: a default bounds no cascade."""
        return "models" in self.model_fields_set


class Config(Section):
    """Whole configuration of a ``semroute.yaml``.

    The section of a plugin strategy is named like the strategy, and has the plugin's own keys.

    Attributes:
        index: folder of the index artifact, relative to that of the file.
        encoder: the remote, torch or plugin encoder that an index may use; None: only one of the index's own files.
        models: properties of the logical models, by name.
        groups: names for sets of interchangeable models.
        deployments: deployments of the models.
        categories: overrides of the category files, by category.
        fallback: models for queries that fit no category.
        strategies: strategies in the order in which they are asked.
        rules: conditions and their actions; the first that decides wins.
        semantic: whether the categories decide or narrow.
        classifier: predicts each model's quality, and chooses by it and by cost.
        judge: a small model that chooses where nothing else has decided.
        cascade: tiers that are tried until an answer is good enough, for categories without their own and the fallback;
            the models of the category, or of the fallback, bound the tiers.
        on_stall: what happens where an agent repeats itself (``stalled`` of a rule): ``escalate`` asks the model next
            above by price among those that the decision names; ``ignore`` changes nothing.
        selection: selection of a deployment among those of a model.
        retries: retries and failover.
        hedging: hedged requests before the first token.
        breaker: circuit breaker of an endpoint.
        budgets: USD that each key, by its environment variable, may spend in a calendar month (UTC).
        baseline: model or group that is taken for the strongest, for reports; None: the one that costs most.
        log: the database of outcomes.
        trial: experiment with a new policy.
        policies: files with sections that override those of this file, such as the ``policy.yaml`` of ``semroute
            tune-policy``, by the name under which a request may ask for them in place of a model.
        state: ``memory``, or a ``redis://`` address that several replicas share.
        state_password_env: environment variable with the password of that Redis.
        state_timeout_s: seconds without any answer after which that Redis is asked once more, and again as many after
            which it counts as unavailable.
    """

    model_config = ConfigDict(extra="allow")
    if not TYPE_CHECKING:  # a type checker takes it for a field
        __pydantic_extra__: dict[str, Annotated[Any, PlainValidator(plugin_section)]]

    index: Annotated[Path, BeforeValidator(folder)] = DEFAULT_INDEX
    encoder: Annotated[NamedEncoder | None, BeforeValidator(named_encoder)] = None
    models: Mapping[Name, ModelSpec] = Field(default_factory=dict)
    groups: Mapping[Name, Names] = Field(default_factory=dict)
    deployments: Annotated[tuple[Deployment, ...], Field(strict=False)] = ()
    categories: Mapping[Name, CategoryOverride] = Field(default_factory=dict)
    fallback: Fallback = Fallback.default()
    strategies: StrategyNames = DEFAULT_STRATEGIES
    rules: Annotated[tuple[Rule, ...], Field(strict=False)] = ()
    semantic: Semantic = Semantic.default()
    classifier: Annotated[Classifier, BeforeValidator(named_folder)] = Classifier.default()
    judge: Judge = Judge.default()
    cascade: Annotated[CascadeConfig, BeforeValidator(no_cascade)] = CascadeConfig.default()
    on_stall: Literal["escalate", "ignore"] = "escalate"
    selection: Selection = Selection.default()
    retries: Retries = Retries.default()
    hedging: Hedging = Hedging.default()
    breaker: BreakerRules = BreakerRules.default()
    budgets: Mapping[Variable, Dollars] = Field(default_factory=dict)
    baseline: Name | None = None
    log: Log = Log.default()
    trial: ExperimentConfig = ExperimentConfig.default()
    policies: Mapping[Name, Annotated[Path, BeforeValidator(file)]] = Field(default_factory=dict)
    state: Annotated[str, AfterValidator(state_address)] = "memory"
    state_password_env: Variable | None = None
    state_timeout_s: Positive = 0.5
    _origin: Origin = PrivateAttr(default=Origin())
    _plugins: Plugins = PrivateAttr(default_factory=Plugins)

    @model_validator(mode="before")
    @classmethod
    def _with_plugin_strategies(cls, data: Any) -> Any:
        return with_strategies(data, cls.model_fields)

    def model_post_init(self, context: Any) -> None:
        """Record the folder of the file, and the plugins that it may name."""
        self._origin, self._plugins = Origin.of(context), plugins_of(context)

    @property
    def plugins(self) -> Plugins:
        """Plugins that it may name: handed in, or installed."""
        return self._plugins

    @property
    def plugin_strategies(self) -> Mapping[str, PluginSection]:
        """Sections of the plugin strategies, by name."""
        return self.model_extra or {}

    @property
    def file_folder(self) -> Path:
        """Folder of the file, base of its relative paths.

        The working folder where there is no file.
        """
        return self._origin.folder

    @property
    def has_default_index(self) -> bool:
        """True if the index is the default one.

        Where it is missing, the shipped categories are used.
        """
        return self.index in (DEFAULT_INDEX, self.file_folder / DEFAULT_INDEX)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        found = [*conflicts(self.model_dump()), *_unusable_names(self.strategies)]
        if found:
            lines = "\n".join(f"{problem.key}: {problem.text}" for problem in found)
            raise PydanticCustomError(CONFLICT, "{lines}", {"lines": lines, "problems": found})
        return self

    def members(self, name: str) -> tuple[str, ...]:
        """Return the models of a name: a group's members, or the model itself."""
        return self.groups.get(name, (name,))

    def deployments_of(self, name: str) -> tuple[Deployment, ...]:
        """Return the deployments of a model or group, in the order of the file."""
        members = self.members(name)
        return tuple(deployment for deployment in self.deployments if deployment.model in members)


def _unusable_names(strategies: Sequence[str]) -> Iterator[Problem]:
    """Yield errors of plugin strategies that are named like another section."""
    for position, name in enumerate(strategies):
        if name not in BUILT_IN["strategies"] and name in Config.model_fields:
            message = f'"{name}" is a section of the file, in which the options of this strategy would stand'
            yield Problem("error", f"strategies.{position}", message, "the plugin needs another name")


CONFLICT = "semroute_conflict"
"""Error type under which pydantic reports keys that contradict each other."""

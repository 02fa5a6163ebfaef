"""The whole of ``semroute.yaml``.

Everything is optional: an empty file is a valid configuration. Numbers are numbers (no ``"60"``, no ``true``), names
are printable text, unknown keys are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from semroute.config.cascade import CascadeConfig, no_cascade
from semroute.config.conflicts import conflicts
from semroute.config.deciding import DEFAULT_STRATEGIES, Classifier, Judge, Semantic, StrategyNames, named_folder
from semroute.config.encoder import NamedEncoder
from semroute.config.log import Log
from semroute.config.paths import Origin
from semroute.config.places import Deployment, Dollars, ModelSpec, Variable
from semroute.config.resilience import BreakerRules, Hedging, Retries, Selection
from semroute.config.rules import Rule
from semroute.config.sections import Name, Names, Number, Positive, Section
from semroute.config.trial import ExperimentConfig
from semroute.config.values import folder, state_address

DEFAULT_INDEX = Path(".semroute/index")
"""Folder of the index where neither the caller nor a file names one."""


class CategoryOverride(Section):
    """What the configuration says of a category, over the category's own file.

    ``threshold`` is None where the built threshold holds; 0.0 is a threshold like any other. ``cascade`` stands in
    place of the general one; None takes that, and false is none at all. ``wants`` are fields in which its queries
    want a strong model, as ``models.NAME.strengths`` has them.
    """

    models: Names | None = None
    threshold: Annotated[Number, Field(ge=-1, le=1)] | None = None
    cascade: Annotated[CascadeConfig | None, BeforeValidator(no_cascade)] = None
    wants: Annotated[tuple[Name, ...], Field(strict=False)] = ()


class Fallback(Section):
    """The models for queries that fit no category, in order."""

    models: Names = ("large",)

    @property
    def is_written(self) -> bool:
        """True if the file names the models: a default bounds no cascade."""
        return "models" in self.model_fields_set


class Config(Section):
    """A whole ``semroute.yaml``.

    Attributes:
        index: folder of the index artifact, relative to that of the file.
        encoder: the remote or torch encoder that an index may use; None: only one of the index's own files.
        models: what is known of the logical models, by name.
        groups: names for models that the user holds to be interchangeable.
        deployments: where models can be called.
        categories: what overrides the category files, by category.
        fallback: where queries go that fit no category.
        strategies: what decides, in the order in which it is asked.
        rules: conditions and what follows from them; the first that decides wins.
        semantic: whether the categories decide or narrow.
        classifier: predicts each model's quality, and chooses by it and by cost.
        judge: a small model that chooses where nothing else has decided.
        cascade: tiers that are tried until an answer is good enough, for categories without their own and the fallback;
            the models of the category, or of the fallback, bound the tiers.
        selection: how a deployment is chosen among those of a model.
        retries: going on after a failure.
        hedging: second attempts before the first token.
        breaker: when a place is closed for its failures.
        budgets: USD that each key, by its environment variable, may spend in a calendar month (UTC).
        baseline: model or group that is held to be the strongest, for reports; None: the one that costs most.
        log: the database of outcomes.
        trial: a new policy beside this one.
        state: ``memory``, or a ``redis://`` address that several replicas share.
        state_password_env: environment variable with the password of that Redis.
        state_timeout_s: seconds without any answer after which that Redis is asked once more, and again as many after
            which it is held to be away.
    """

    index: Annotated[Path, BeforeValidator(folder)] = DEFAULT_INDEX
    encoder: NamedEncoder | None = None
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
    selection: Selection = Selection.default()
    retries: Retries = Retries.default()
    hedging: Hedging = Hedging.default()
    breaker: BreakerRules = BreakerRules.default()
    budgets: Mapping[Variable, Dollars] = Field(default_factory=dict)
    baseline: Name | None = None
    log: Log = Log.default()
    trial: ExperimentConfig = ExperimentConfig.default()
    state: Annotated[str, AfterValidator(state_address)] = "memory"
    state_password_env: Variable | None = None
    state_timeout_s: Positive = 0.5
    _origin: Origin = PrivateAttr(default=Origin())

    def model_post_init(self, context: Any) -> None:
        """Keep the folder of the file."""
        self._origin = Origin.of(context)

    @property
    def file_folder(self) -> Path:
        """The folder of the file, at which its relative paths begin; the working folder where there is none."""
        return self._origin.folder

    @property
    def has_default_index(self) -> bool:
        """True if the index is the default one: where it is missing, the shipped categories serve."""
        return self.index in (DEFAULT_INDEX, self.file_folder / DEFAULT_INDEX)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        found = conflicts(self.model_dump())
        if found:
            lines = "\n".join(f"{problem.key}: {problem.text}" for problem in found)
            raise PydanticCustomError(CONFLICT, "{lines}", {"lines": lines, "problems": found})
        return self

    def members(self, name: str) -> tuple[str, ...]:
        """The models that a name stands for: a group's members, or the model itself."""
        return self.groups.get(name, (name,))

    def deployments_of(self, name: str) -> tuple[Deployment, ...]:
        """The deployments that serve a model, or any model of a group, in the order of the file."""
        members = self.members(name)
        return tuple(deployment for deployment in self.deployments if deployment.model in members)


CONFLICT = "semroute_conflict"
"""Error type under which pydantic reports keys that contradict each other."""

"""How a query is decided: the strategies in order, and what each is told. Sections of ``semroute.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from semroute.config.places import Dollars
from semroute.config.sections import Name, Names, Positive, Section
from semroute.config.values import optional_folder

StrategyName: TypeAlias = Literal["rules", "semantic", "classifier", "judge"]
StrategyNames: TypeAlias = Annotated[tuple[StrategyName, ...], Field(strict=False, min_length=1)]

DEFAULT_STRATEGIES: tuple[StrategyName, ...] = ("rules", "semantic", "classifier", "judge")


class Semantic(Section):
    """The strategy that compares a query with the categories.

    Attributes:
        mode: ``decide`` settles on the category's models in their order; ``narrow`` leaves them to the strategies after
            it, and the category's order stands where none of these decides.
    """

    mode: Literal["decide", "narrow"] = "decide"


class Classifier(Section):
    """The strategy that predicts how good each model's answer would be.

    Attributes:
        folder: from ``semroute train``; None turns it off.
        value: USD that +1.0 of quality is worth; None takes what training found.
        candidates: models and groups that it chooses from where nothing before it has narrowed them; None: those that
            it knows and that have a deployment.
    """

    folder: Annotated[Path | None, BeforeValidator(optional_folder)] = None
    value: Dollars | None = None
    candidates: Names | None = None


def named_folder(value: object) -> object:
    """The folder alone is a classifier with the value that training found."""
    return {"folder": value} if isinstance(value, str) else value


class Judge(Section):
    """The strategy that asks a small model.

    Attributes:
        model: the model or group that judges; None turns the judge off.
        timeout_s: longest wait for its answer, seconds; after that the query goes where it would go without a judge.
        candidates: models and groups that it chooses from; None: those that some category or the fallback names and
            that have a deployment.
        max_usd: highest expected cost of one judgement; above it the judge is not asked. None is no ceiling.
        max_chars: characters of a query that it is shown: a longer one is cut in the middle.
        cache: judgements that are remembered; 0 remembers none.
        cache_ttl_s: how long, seconds.
    """

    model: Name | None = None
    timeout_s: Positive = 3.0
    candidates: Names | None = None
    max_usd: Dollars | None = 0.01
    max_chars: Annotated[int, Field(ge=100)] = 4000
    cache: Annotated[int, Field(ge=0)] = 10_000
    cache_ttl_s: Positive = 3600.0

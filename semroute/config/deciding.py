"""How a query is decided: the strategies in order, and what each is told. Sections of ``semroute.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from semroute.config.places import Dollars
from semroute.config.sections import Name, Names, Positive, Section

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

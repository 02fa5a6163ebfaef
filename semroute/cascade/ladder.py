"""The tiers of a cascade, made once from the configuration."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from semroute.cascade.acceptance import Acceptance, ScorerOf, acceptance_of, no_scorer
from semroute.config.cascade import CascadeConfig
from semroute.types import Completion, Delta, ModelClient, Request

ModelsOf: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
Kept: TypeAlias = Callable[[Sequence[str], Sequence[str]], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier.

    Attributes:
        tier: position in the configuration; 0 is the cheapest.
        candidates: models and groups that it calls, in order.
        acceptance: what its answers must pass.
        quality: share of queries that it answers well, where it is known.
    """

    tier: int
    candidates: tuple[str, ...]
    acceptance: Acceptance
    quality: float | None = None

    @property
    def name(self) -> str:
        """What it calls, for a person."""
        return ", ".join(self.candidates)


@dataclass(frozen=True, slots=True)
class Cascade:
    """The rungs from the cheapest up, and the rules of climbing. Safe to share between requests.

    Attributes:
        rungs: the tiers.
        stream_after_tokens, value_per_quality, max_usd: see :class:`semroute.config.cascade.Cascade`.
        refusing: tiers that have refused to give log probabilities, by name; they are not asked again.
    """

    rungs: tuple[Tier, ...]
    stream_after_tokens: int | None = None
    value_per_quality: float | None = None
    max_usd: float | None = None
    refusing: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, cascade: CascadeConfig, scorer_of: ScorerOf = no_scorer) -> Cascade:
        """The ladder of a section ``cascade``; ``scorer_of`` reads the classifier of a folder.

        Raises:
            MissingExtraError: a check needs an extra that is not installed.
            ArtifactError: a classifier cannot be read.
        """
        accepts = [cascade.accept if tier.accept is None else tier.accept for tier in cascade.tiers]
        rungs = (
            Tier(position, (tier.use,), acceptance_of(accept, scorer_of), tier.quality)
            for position, (tier, accept) in enumerate(zip(cascade.tiers, accepts, strict=True))
        )
        return cls(tuple(rungs), cascade.stream_after_tokens, cascade.value_per_quality, cascade.max_usd)

    def within(self, allowed: Sequence[str], kept: Kept) -> Cascade:
        """The same with the models that are allowed; a tier of which nothing is left is left out.

        Args:
            allowed: models and groups.
            kept: what of some names is among others.
        """
        rungs = (replace(rung, candidates=kept(rung.candidates, allowed)) for rung in self.rungs)
        return replace(self, rungs=tuple(rung for rung in rungs if rung.candidates))

    def starting_at(self, model: str, models: ModelsOf) -> Cascade:
        """The same from the first tier on that calls ``model``; without rungs where none does.

        Args:
            model: a name.
            models: the models that names of models and groups stand for.
        """
        places = (place for place, rung in enumerate(self.rungs) if model in models(rung.candidates))
        return replace(self, rungs=self.rungs[next(places, len(self.rungs)) :])

    def climb(
        self,
        text: str,
        request: Request,
        caller: ModelClient,
        *,
        deadline_s: float,
        streaming: bool = False,
        spent_usd: float = 0.0,
    ) -> AsyncGenerator[Delta | Completion]:
        """Answer a query: pieces where ``streaming``, and last the completion.

        It carries every attempt of every tier, the tiers' trials, and the position of the one whose answer it is: the
        accepted one, else the best. Once a piece was given out no other tier is tried.

        Args:
            text: the routed text.
            request: what to ask.
            caller: calls models.
            deadline_s: longest time for all tiers together, seconds.
            streaming: whether pieces are wanted.
            spent_usd: what the query has cost already; it counts towards ``max_usd``.

        Raises:
            NoDeploymentError: no tier may be called; the message says why of each.
            DispatchError: none answered: the last tier's error, with the attempts of all.
        """
        # These two know the ladder, so they are known here only when it is climbed.
        from semroute.cascade.calls import Calls
        from semroute.cascade.climb import CascadeRun

        calls = Calls(self, request, caller, deadline_s, streaming, spent_usd)
        return CascadeRun(self, text, request, calls, streaming=streaming).events()

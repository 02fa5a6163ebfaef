"""Constraints of one request on the endpoints that may answer it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from semroute.config import Deployment
from semroute.types import Cost

Preference: TypeAlias = Literal["cheap", "balanced", "best"]
"""Order of a decision's models: from the lowest price up, as decided, or from the highest price down."""
PREFERENCES: tuple[Preference, ...] = ("cheap", "balanced", "best")

POLICIES = ("serving", "trial")
"""Policies beside those that the configuration names: the one that serves, and the one on trial."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """Limits of one request, all applied before any call is made.

    Attributes:
        model: only this logical model or group.
        deployment: only this deployment.
        allow: only these names of deployments, models, groups or providers. Empty allows all.
        deny: none of these; names as in ``allow``.
        regions: only deployments in one of these regions; excludes deployments without a region. Empty allows all.
        max_usd: highest cost of one attempt, computed for the longest answer; excludes deployments without a known
            price.
        total_usd: the same for all attempts of a call together, including retries and hedged requests.
        deadline_s: longest time for the whole request, including the routing decision, seconds; None takes the
            configuration's.
        wants: fields in which a strong model is preferred, such as ``reasoning``, named as in
            ``models.NAME.strengths``; part of the score, not a filter.
        prefer: deployment that is tried before the others of its model or group, such as one that has the
            conversation's prefix in its cache; the others follow where it is closed or fails.
        preference: ``cheap`` and ``best`` call the models that the decision names, those of its cascade's tiers among
            them, from the lowest price up or from the highest price down, without a cascade; ``balanced`` leaves the
            decision as it is.
        category: route as if the query had been matched with this category; rules before it hold.
        policy: the decision of this policy, ``serving``, ``trial`` or one of the configuration's ``policies``, whatever
            the trial's share.
    """

    model: str | None = None
    deployment: str | None = None
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    max_usd: float | None = None
    total_usd: float | None = None
    deadline_s: float | None = None
    wants: frozenset[str] = frozenset()
    prefer: str | None = None
    preference: Preference = "balanced"
    category: str | None = None
    policy: str | None = None

    @property
    def is_pinned(self) -> bool:
        """True if the caller names model or deployment, and nothing is decided."""
        return self.model is not None or self.deployment is not None

    def against(self, deployment: Deployment, cost: Cost | None, names: frozenset[str]) -> Iterator[str]:
        """Yield the reasons why a deployment may not be called; nothing if it may.

        Args:
            deployment: the deployment to check.
            cost: cost of the longest answer there; None if no price is known.
            names: names under which ``allow`` and ``deny`` match it.
        """
        if self.deployment is not None and deployment.name != self.deployment:
            yield f"the request asks for {self.deployment}"
        if self.allow and names.isdisjoint(self.allow):
            yield "the request's allow list does not name it"
        if not names.isdisjoint(self.deny):
            yield "the request's deny list names it"
        if self.regions and deployment.region not in self.regions:
            where = f"in {deployment.region}" if deployment.region else "in no region that is named"
            yield f"it is {where}, and the request allows {', '.join(sorted(self.regions))}"
        if self.max_usd is not None:
            if cost is None:
                yield "its price is not known, and the request has a price ceiling"
            elif cost.usd > self.max_usd:
                yield f"it may cost {cost.usd:.6f} USD, above the request's ceiling of {self.max_usd:g}"
        if self.total_usd is not None:
            if cost is None:
                yield "its price is not known, and the request has a budget: add price"
            elif cost.usd > self.total_usd:
                left = max(self.total_usd, 0.0)
                yield f"it may cost {cost.usd:.6f} USD, and {left:.6f} are left of the request's budget"


ANYTHING = Constraints()
"""No limits."""

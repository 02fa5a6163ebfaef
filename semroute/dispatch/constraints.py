"""What one request asks of the places that may answer it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from semroute.config import Deployment
from semroute.types import Cost


@dataclass(frozen=True, slots=True)
class Constraints:
    """Limits of one request, all of them respected before any call is made.

    Attributes:
        model: only this logical model or group.
        deployment: only this deployment.
        allow: only these; each is a name of a deployment, a model, a group or a provider. Empty allows all.
        deny: none of these; names as in ``allow``.
        regions: only deployments in one of these regions; one that names no region is left out. Empty allows all.
        max_usd: highest cost of one attempt, reckoned with the longest answer; a deployment whose price is not known
            is left out.
        total_usd: the same for all attempts of a call together, retries and hedges among them.
        deadline_s: longest time for the whole request, the decision where it goes included, seconds; None takes the
            configuration's.
        wants: fields in which a strong model is preferred, such as ``reasoning``, as ``models.NAME.strengths`` has
            them; no filter, but a part of the score.
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

    def against(self, deployment: Deployment, cost: Cost | None, names: frozenset[str]) -> Iterator[str]:
        """Why a deployment may not be called; nothing where it may.

        Args:
            deployment: where the call would go.
            cost: of the longest answer there; None where no price is known.
            names: what ``allow`` and ``deny`` may call it by.
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

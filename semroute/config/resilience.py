"""Selection, retries, hedging and circuit breaker settings.

They are sections of ``semroute.yaml``.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import Field, model_validator

from semroute.config.values import Count, Number, Positive, Section, Share, bad_value


class Weights(Section):
    """Weights of the live signals in the choice of a deployment.

    Only their ratios matter.
    """

    cost: Annotated[Number, Field(ge=0)] = 1.0
    latency: Annotated[Number, Field(ge=0)] = 1.0
    availability: Annotated[Number, Field(ge=0)] = 1.0
    capability: Annotated[Number, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _check_positive(self) -> Self:
        if not (self.cost or self.latency or self.availability or self.capability):
            raise bad_value("all weights are 0", "set at least one weight above 0")
        return self


class Selection(Section):
    """Weighted random selection among the deployments of a model.

    Attributes:
        weights: weights of the four signals.
        sharpness: preference for the better score; 0 draws evenly.
        exploration: share of the draws that ignore the scores, so that every deployment stays measured.
    """

    weights: Weights = Weights.default()
    sharpness: Annotated[Number, Field(ge=0)] = 10.0
    exploration: Share = 0.02


class Retries(Section):
    """Retries and failover.

    Attributes:
        deadline_s: longest time for a whole request with its decision and all its attempts, seconds. While a failover
            or escalation is possible, an attempt that stays silent is given up after half of the remaining time,
            unless it usually takes longer.
        attempts: most attempts of a request, whatever the reason.
        same_place: most retries at the same deployment.
        budget: retries at the same deployment as a share of the requests.
        backoff_s: the first retry waits a random time up to this, the next up to twice as long (full jitter).
        most_backoff_s: the longest wait.
    """

    deadline_s: Positive = 120.0
    attempts: Count = 6
    same_place: Annotated[int, Field(ge=0)] = 2
    budget: Share = 0.2
    backoff_s: Positive = 0.25
    most_backoff_s: Positive = 4.0


class Hedging(Section):
    """Hedged requests: a second attempt before the first token arrives.

    Attributes:
        enabled: off by default: it costs extra calls.
        quantile: quantile of the measured time to first token, after which the second attempt starts.
        most: extra calls as a share of the requests.
    """

    enabled: bool = False
    quantile: Annotated[Number, Field(gt=0, lt=1)] = 0.95
    most: Share = 0.02


class BreakerRules(Section):
    """Circuit breaker of an endpoint (a deployment with a credential).

    Attributes:
        window_s: how far back calls count, seconds.
        failure_share: share of failures at which it opens, given ``least_calls`` calls in the window.
        least_calls: see ``failure_share``.
        in_a_row: failures in a row at which it opens whatever the share.
        open_s: how long it stays open the first time, seconds; doubled each time its probes fail.
        most_open_s: the longest time open.
        jitter: the time open varies by this share, so that replicas do not probe together.
        probes: most probes at the same time while half-open.
        probe_lease_s: a probe that has not come back after this is forgotten, seconds.
        successes: probes that must succeed to close it, before as many failed as make ``failure_share`` of them.
        ramp_s: how long its traffic takes to grow back, seconds.
        panic_per_s: calls a second that an open breaker permits where no other endpoint can be called; more, as the
            share of its calls that are answered allows. 0 permits none.
        suspend_s: how long an endpoint is closed after it refused its key in a way that may pass, seconds; doubled
            each time a probe is refused as well.
        most_suspend_s: the longest time suspended.
        disabled_probe_s: how often a disabled key is tried with one call, seconds.
        most_hint_s: the longest ``Retry-After`` that is heeded, seconds: a daily quota is asked for again each hour.
        most_failure_hint_s: the same after a failure (5xx), which seldom lasts as long as the provider says.
    """

    window_s: Positive = 30.0
    failure_share: Annotated[Number, Field(gt=0, le=1)] = 0.5
    least_calls: Count = 20
    in_a_row: Count = 5
    open_s: Positive = 5.0
    most_open_s: Positive = 300.0
    jitter: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    probes: Count = 2
    probe_lease_s: Positive = 120.0
    successes: Count = 3
    ramp_s: Annotated[Number, Field(ge=0)] = 30.0
    panic_per_s: Annotated[Number, Field(ge=0)] = 1.0
    suspend_s: Positive = 120.0
    most_suspend_s: Positive = 1800.0
    disabled_probe_s: Positive = 900.0
    most_hint_s: Positive = 3600.0
    most_failure_hint_s: Positive = 300.0

    @property
    def failed_probes(self) -> int:
        """Failed probes at which it opens again.

        They are as many as make ``failure_share`` of them and ``successes``.
        """
        limit = 3 * self.successes
        if self.failure_share >= 1.0:
            return limit
        # A hair less, because 0.2 of 5 must be 1 and not 2.
        needed = math.ceil(self.failure_share * self.successes / (1.0 - self.failure_share) - 1e-9)
        return min(max(needed, 1), limit)

"""Estimate of a month's bill from an application's requests.

No model is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Literal, TypeAlias

from semroute.catalog import Needs, estimate_text_tokens, needs_of
from semroute.config import Config, Judge
from semroute.config.schema import ExperimentConfig
from semroute.errors import SemrouteError
from semroute.evaluate.log_report import DAY_S, MONTH_DAYS
from semroute.router import Router
from semroute.types import Decision, Usage
from semroute.workflows.pool import PricedPool
from semroute.workflows.requests import NOT_COUNTED, RequestRow
from semroute.workflows.routing import CHUNK

OUTPUT_TOKENS = 300
"""Default output tokens of an answer of unknown length."""
MOST_NAMES = 1000
"""Maximum names that are counted separately; a file may have a new one in each row."""
OTHERS = "(others)"
UNKNOWN = "(unknown)"

Source: TypeAlias = Literal["counted", "recorded", "limited", "assumed"]
"""Source of an answer's tokens: ``usage``, a recorded answer's text, ``max_tokens`` below the assumption, or
the assumption."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Assumed share of a tier's answers that escalate to the next tier.

    Attributes:
        low, expected, high: 0 to 1.
        source: origin of the rate, for people.
    """

    low: float
    expected: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class Month:
    """Requests per month, from ``--per-month``, ``counts`` or ``timestamps``.

    ``days`` is the span of the timestamps.
    """

    requests: float
    source: str
    days: float | None = None

    @property
    def is_short(self) -> bool:
        """True if the timestamps span less than a day."""
        return self.days is not None and self.days < 1.0


@dataclass(frozen=True, slots=True)
class ModelShare:
    """Requests routed to one model.

    Attributes:
        model: its name.
        requests: number of requests.
        share: of all requests, 0 to 1.
        usd: cost of requests with a price.
        input_price, output_price: USD per million tokens; None if unknown.
        priced_as: vendor's model whose price is assumed for it; None if it has its own.
    """

    model: str
    requests: float
    share: float
    usd: float
    input_price: float | None = None
    output_price: float | None = None
    priced_as: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {**asdict(self), "requests": _whole(self.requests)}


@dataclass(frozen=True, slots=True)
class CascadeBill:
    """Bill with a cascade, as a polynomial of the escalation rate.

    Attributes:
        tiers: models of each tier, joined by "then"; of several cascades, those of the most frequent one.
        requests: compared requests that go through a cascade; the others are charged as routed.
        by_tier: USD of calling each tier for every request that has it; tier ``k`` is called for a share ``r ** k``.
        escalation: the assumed rate.
    """

    tiers: tuple[str, ...]
    requests: float
    by_tier: tuple[float, ...]
    escalation: Escalation

    def usd(self, rate: float) -> float:
        """Return the bill at an escalation rate."""
        return sum(usd * rate**tier for tier, usd in enumerate(self.by_tier))

    def break_even(self, usd: float) -> float | None:
        """Return the escalation rate at which the cascade costs ``usd``.

        None if it costs more at any rate, 1 if it is cheaper at any rate.
        """
        if self.usd(0.0) > usd:
            return None
        if self.usd(1.0) <= usd:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.usd(middle) <= usd else (low, middle)
        return low


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bills of an application's requests.

    Attributes:
        rows: rows that were read.
        requests: number of requests in the rows.
        compared: requests whose cost now and routed are both known; the others are in neither sum.
        routed: share by model as routed, most frequent first.
        now: share by model today, most frequent first.
        now_usd, routed_usd: cost of the compared requests.
        cascade: bill with a cascade; None without one, or if a tier has no price.
        month: requests a month; None if unknown.
        fallback: share of requests without a category.
        named: share of requests that name their model.
        assumed_now: model assumed for the others; None if it has no price or is not needed.
        input_tokens, output_tokens: mean of a request.
        counted_inputs: share of requests whose input tokens a provider counted.
        outputs: share of requests by source of the output tokens.
        output_tokens_assumed: output tokens of an answer of unknown length.
        unpriced: requests by model without a known price, most frequent first.
    """

    rows: int
    requests: float
    compared: float
    routed: tuple[ModelShare, ...]
    now: tuple[ModelShare, ...]
    now_usd: float
    routed_usd: float
    cascade: CascadeBill | None
    month: Month | None
    fallback: float
    named: float
    assumed_now: str | None
    input_tokens: float
    output_tokens: float
    counted_inputs: float
    outputs: Mapping[Source, float]
    output_tokens_assumed: int
    unpriced: Mapping[str, float] = field(default_factory=dict)

    @property
    def scale(self) -> float | None:
        """Return the factor from the requests to a month; None if unknown."""
        return None if self.month is None or not self.requests else self.month.requests / self.requests

    def monthly(self, usd: float) -> float | None:
        """Return the USD a month; None if unknown."""
        return None if self.scale is None else usd * self.scale

    def saved(self, usd: float) -> float | None:
        """Return the share of today's bill that another saves; None if it is 0."""
        return 1.0 - usd / self.now_usd if self.now_usd > 0 else None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        month = None if self.month is None else {**asdict(self.month), "is_short": self.month.is_short}
        return {
            "rows": self.rows,
            "requests": _whole(self.requests),
            "compared": _whole(self.compared),
            "month": month,
            "models": [share.to_dict() for share in self.routed],
            "now": {**self._bill(self.now_usd), "models": [share.to_dict() for share in self.now]},
            "routed": self._bill(self.routed_usd),
            "cascade": None if self.cascade is None else self._cascade_dict(self.cascade),
            "fallback": self.fallback,
            "tokens": {
                "input": self.input_tokens,
                "output": self.output_tokens,
                "counted_inputs": self.counted_inputs,
                "outputs": dict(self.outputs),
            },
            "assumptions": {"now": self.assumed_now, "named": self.named, "output_tokens": self.output_tokens_assumed},
            "unpriced": {name: _whole(requests) for name, requests in self.unpriced.items()},
        }

    def _bill(self, usd: float) -> dict[str, object]:
        known = self.compared > 0
        return {
            "usd": usd if known else None,
            "usd_a_month": self.monthly(usd) if known else None,
            "saved": self.saved(usd) if known else None,
        }

    def _cascade_dict(self, cascade: CascadeBill) -> dict[str, object]:
        rates = cascade.escalation
        bills = {name: self._bill(cascade.usd(getattr(rates, name))) for name in ("low", "expected", "high")}
        return {
            "tiers": list(cascade.tiers),
            "requests": _whole(cascade.requests),
            "escalation": asdict(rates),
            **bills,
            "break_even_routed": cascade.break_even(self.routed_usd),
            "break_even_now": cascade.break_even(self.now_usd),
        }


@dataclass(slots=True)
class _Group:
    requests: float = 0.0
    usd: float = 0.0


class EstimateTally:
    """Running sums over requests, in constant memory.

    Args:
        config: the configuration; its cascades determine where a second sample is drawn.
        pool: models with their prices.
        now: model of requests that name none; None takes the strongest of the pool.
        output_tokens: default for an answer of unknown length.
        tiers: models of a cascade for every request; empty takes that of the decision.
    """

    def __init__(
        self,
        config: Config,
        pool: PricedPool,
        *,
        now: str | None = None,
        output_tokens: int = OUTPUT_TOKENS,
        tiers: Sequence[str] = (),
    ) -> None:
        self.rows = 0
        self._config, self._pool, self._output_tokens = config, pool, output_tokens
        self._now, self._tiers = now, tuple((name,) for name in tiers)
        self._strongest: str | None = None
        self._requests = self._compared = self._fallback = self._named = self._monthly = 0.0
        self._now_usd = self._routed_usd = 0.0
        self._by_tier: list[float] = []
        self._cascaded = self._unknown_cascades = self._input = self._output = self._counted = 0.0
        self._routed: dict[str, _Group] = {}
        self._by_now: dict[str, _Group] = {}
        self._unpriced: dict[str, _Group] = {}
        self._cascades: dict[str, tuple[tuple[tuple[str, ...], ...], _Group]] = {}
        self._outputs: dict[Source, float] = {}
        self._timed, self._first, self._last, self._has_times_of_day = 0, float("inf"), float("-inf"), False

    def add(self, row: RequestRow, decision: Decision) -> None:
        """Add a request with its decision."""
        self.rows += 1
        self._note_time(row)
        needs = needs_of(row.request)
        usage = self._tokens(row, needs)
        model, routed = self._pool.call(decision.candidates, needs, usage)
        used = row.model or self._default()
        now = self._pool.cost(used, usage)
        self._requests += row.count
        self._fallback += row.count * decision.is_fallback
        self._named += row.count * (row.model is not None)
        for groups, name, cost in ((self._routed, model, routed), (self._by_now, used, now)):
            group = _grouped(groups, name)
            group.requests += row.count
            group.usd += row.count * (cost or 0.0)
        for name in {name for name, cost in ((model, routed), (used, now)) if cost is None}:
            _grouped(self._unpriced, name).requests += row.count
        if routed is None or now is None:
            return
        self._compared += row.count
        self._now_usd += row.count * now
        self._routed_usd += row.count * routed
        self._climb(row, decision, needs, usage, routed)

    def estimate(self, *, per_month: float | None = None, escalation: Escalation | None = None) -> Estimate:
        """Return the estimate.

        Args:
            per_month: requests a month; None derives them from counts or timestamps, if every row has them.
            escalation: rate of cascades; None omits these.
        """
        total = self._requests or 1.0
        needs_default = self._named < self._requests
        return Estimate(
            rows=self.rows,
            requests=self._requests,
            compared=self._compared,
            routed=self._shares(self._routed, total),
            now=self._shares(self._by_now, total),
            now_usd=self._now_usd,
            routed_usd=self._routed_usd,
            cascade=None if escalation is None else self._cascade_bill(escalation),
            month=self._month(per_month),
            fallback=self._fallback / total,
            named=self._named / total,
            assumed_now=(self._default() if needs_default else None),
            input_tokens=self._input / total,
            output_tokens=self._output / total,
            counted_inputs=self._counted / total,
            outputs={source: weight / total for source, weight in sorted(self._outputs.items())},
            output_tokens_assumed=self._output_tokens,
            unpriced={name: group.requests for name, group in _most_first(self._unpriced)},
        )

    def _cascade_bill(self, escalation: Escalation) -> CascadeBill | None:
        if not self._cascades or self._unknown_cascades:
            return None
        tiers, _ = max(self._cascades.values(), key=lambda entry: (entry[1].requests, entry[0]))
        names = tuple(" or ".join(tier) for tier in tiers)
        return CascadeBill(names, self._cascaded, tuple(self._by_tier), escalation)

    @property
    def has_cascade(self) -> bool:
        """True if any request goes through a cascade."""
        return bool(self._cascades)

    @property
    def first_tiers(self) -> frozenset[str]:
        """Return the models and groups of first tiers."""
        return frozenset(name for tiers, _ in self._cascades.values() for name in tiers[0])

    def _default(self) -> str:
        """Return the model of requests that name none.

        It needs the pool, and is looked up on first use.
        """
        if self._now is not None:
            return self._now
        if self._strongest is None:
            self._strongest = self._pool.strongest() or UNKNOWN
        return self._strongest

    def _tokens(self, row: RequestRow, needs: Needs) -> Usage:
        """Return the tokens of a request and its answer, as counted if possible."""
        usage = row.usage or Usage(NOT_COUNTED, NOT_COUNTED)
        sent = needs.input_tokens if usage.input_tokens == NOT_COUNTED else usage.input_tokens
        source, received = self._answer(row, needs, usage)
        self._outputs[source] = self._outputs.get(source, 0.0) + row.count
        self._input += row.count * sent
        self._output += row.count * received
        self._counted += row.count * (usage.input_tokens != NOT_COUNTED)
        return Usage(sent, received, usage.cached_tokens, usage.cache_write_tokens)

    def _answer(self, row: RequestRow, needs: Needs, usage: Usage) -> tuple[Source, int]:
        if usage.output_tokens != NOT_COUNTED:
            return "counted", usage.output_tokens
        if row.answer is not None:
            return "recorded", estimate_text_tokens(row.answer)
        # A limit is the maximum length, and most answers end long before it.
        if needs.output_is_set and needs.max_output_tokens < self._output_tokens:
            return "limited", needs.output_tokens
        return "assumed", self._output_tokens * needs.answers

    def _climb(self, row: RequestRow, decision: Decision, needs: Needs, usage: Usage, routed: float) -> None:
        """Add the cost by tier of a compared request.

        Without a cascade the cost of the routed call is all.
        """
        tiers = self._tiers or decision.cascade
        if not tiers:
            self._add_tier(0, row.count * routed)
            return
        key = "\0".join(" or ".join(tier) for tier in tiers)
        self._cascades.setdefault(key, (tuple(tiers), _Group()))[1].requests += row.count
        self._cascaded += row.count
        costs = [self._pool.call(tier, needs, usage) for tier in tiers]
        for place, (name, cost) in enumerate(costs):
            if cost is None:
                self._unknown_cascades += row.count
                _grouped(self._unpriced, name).requests += row.count
                continue
            # The last tier's answer is always accepted, so that no second sample is compared with it.
            answers = 1 + (place < len(costs) - 1 and self._draws_samples(decision, tiers[place]))
            self._add_tier(place, row.count * cost * answers)

    def _draws_samples(self, decision: Decision, tier: Sequence[str]) -> bool:
        """Return True if the configuration compares two samples of a tier."""
        if self._tiers:
            return False
        override = self._config.categories.get(decision.category or "")
        own = None if override is None else override.cascade
        cascade = self._config.cascade if own is None else own
        accept = next((one.accept for one in cascade.tiers if one.use in tier and one.accept), cascade.accept)
        return accept.consistency is not None

    def _add_tier(self, place: int, usd: float) -> None:
        while len(self._by_tier) <= place:
            self._by_tier.append(0.0)
        self._by_tier[place] += usd

    def _note_time(self, row: RequestRow) -> None:
        self._monthly += row.monthly
        if row.at is not None:
            self._timed += 1
            self._first, self._last = min(self._first, row.at), max(self._last, row.at)
            self._has_times_of_day |= not row.whole_day

    def _month(self, per_month: float | None) -> Month | None:
        if per_month is not None:
            return Month(per_month, "--per-month")
        if self.rows and self._monthly == self.rows:
            return Month(self._requests, "counts")
        if not self.rows or self._timed < self.rows or self._last < self._first:
            return None
        # A last day without a time counts as a whole day.
        days = (self._last - self._first) / DAY_S + (not self._has_times_of_day)
        return Month(self._requests / days * MONTH_DAYS, "timestamps", days) if days > 0 else None

    def _shares(self, groups: Mapping[str, _Group], total: float) -> tuple[ModelShare, ...]:
        found = []
        for name, group in _most_first(groups):
            price = self._pool.price(name)
            found.append(
                ModelShare(
                    name,
                    group.requests,
                    group.requests / total,
                    group.usd,
                    None if price is None else price.input,
                    None if price is None else price.output,
                    self._pool.example(name),
                )
            )
        return tuple(found)


def tally_requests(
    tally: EstimateTally, router: Router, rows: Iterable[RequestRow | SemrouteError]
) -> Iterator[SemrouteError | int]:
    """Route requests and add them to a tally.

    Yields the errors of rows, and after each chunk the number of rows added.

    Args:
        tally: receives the requests.
        router: the router that decides; :func:`without_calls` keeps it from calling a model.
        rows: requests and errors of :func:`semroute.workflows.requests.read_requests`.
    """
    waiting = iter(rows)
    while chunk := list(islice(waiting, CHUNK)):
        requests = [row for row in chunk if isinstance(row, RequestRow)]
        for row, decision in zip(requests, router.route_many([row.request for row in requests]), strict=True):
            tally.add(row, decision)
        yield from (row for row in chunk if isinstance(row, SemrouteError))
        yield tally.rows


def without_calls(config: Config) -> Config:
    """Return a configuration that decides by one policy, without a model call."""
    return config.model_copy(update={"judge": Judge(), "trial": ExperimentConfig()})


def _whole(count: float) -> float:
    """Return a number of requests, as an integer if it is whole."""
    return int(count) if count.is_integer() else count


def _grouped(groups: dict[str, _Group], name: str) -> _Group:
    if name not in groups and len(groups) >= MOST_NAMES:
        name = OTHERS
    return groups.setdefault(name, _Group())


def _most_first(groups: Mapping[str, _Group]) -> list[tuple[str, _Group]]:
    return sorted(groups.items(), key=lambda entry: (-entry[1].requests, entry[0]))

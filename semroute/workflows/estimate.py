"""Estimate of a month's bill from an application's requests, before any model was called."""

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
from semroute.workflows.stream import CHUNK

OUTPUT_TOKENS = 300
"""Tokens of an answer of which nothing is known."""
MOST_NAMES = 1000
"""Different names that are counted one by one; a file may have another one in each row."""
OTHERS = "(others)"
UNKNOWN = "(unknown)"

Source: TypeAlias = Literal["counted", "recorded", "limited", "assumed"]
"""Where the tokens of an answer are from: ``usage``, a recorded answer's text, ``max_tokens`` below the assumption, or
the assumption."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Assumed share of answers of a tier that are not accepted, so that the next tier is called.

    Attributes:
        low, expected, high: 0 to 1.
        source: where they are from, for people.
    """

    low: float
    expected: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class Month:
    """Number of requests a month, and where it is from: ``--per-month``, ``counts`` or ``timestamps``.

    ``days`` is the span of the timestamps.
    """

    requests: float
    source: str
    days: float | None = None

    @property
    def is_short(self) -> bool:
        """True if less than a day was seen."""
        return self.days is not None and self.days < 1.0


@dataclass(frozen=True, slots=True)
class ModelShare:
    """Requests that go to one model.

    Attributes:
        model: its name.
        requests: how many.
        share: of all requests, 0 to 1.
        usd: cost of those that have a price.
        input_price, output_price: USD per million tokens; None where no price is known.
        priced_as: vendor's model whose price is assumed for it; None where it has its own.
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
        tiers: models of each tier, joined by "then"; of the most frequent cascade where there are several.
        requests: compared requests that go up a cascade; the others are charged as routed.
        by_tier: USD of calling each tier for every request that has it; tier ``k`` is called for a share ``r ** k``.
        escalation: the assumption.
    """

    tiers: tuple[str, ...]
    requests: float
    by_tier: tuple[float, ...]
    escalation: Escalation

    def usd(self, rate: float) -> float:
        """Return the bill at an escalation rate."""
        return sum(usd * rate**tier for tier, usd in enumerate(self.by_tier))

    def break_even(self, usd: float) -> float | None:
        """Return the escalation rate at which the cascade costs ``usd``; None where it costs more at any rate.

        1 where it is cheaper at any rate.
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
        requests: requests that they stand for.
        compared: requests whose cost now and routed are both known; the others are in neither sum.
        routed: where requests would go, most first.
        now: where they go today, most first.
        now_usd, routed_usd: cost of the compared requests.
        cascade: the bill with a cascade; None where there is none, or a tier has no price.
        month: requests a month; None where that is not known.
        fallback: share of requests that fit no category.
        named: share of requests that name their model.
        assumed_now: model that the others are taken to use; None where it has no price or is not needed.
        input_tokens, output_tokens: mean of a request.
        counted_inputs: share of requests whose input was counted by a provider.
        outputs: share of requests by where the length of the answer is from.
        output_tokens_assumed: of an answer of which nothing is known.
        unpriced: requests by model without a known price, most first.
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
        """Factor from the requests to a month; None where that is not known."""
        return None if self.month is None or not self.requests else self.month.requests / self.requests

    def monthly(self, usd: float) -> float | None:
        """Return the USD a month; None where that is not known."""
        return None if self.scale is None else usd * self.scale

    def saved(self, usd: float) -> float | None:
        """Return the share of the bill of now that another one saves; None where that is 0."""
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
    """Sums over requests, in memory that does not grow with their number.

    Args:
        config: as it is written; its cascades say where a second answer is drawn.
        pool: models and prices.
        now: the model that requests use which name none; None takes the strongest of the pool.
        output_tokens: of an answer of which nothing is known.
        tiers: models of a cascade that every request goes up; empty takes the decision's.
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
        """Add a request and where it would go."""
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
        """Return the bills.

        Args:
            per_month: requests a month; None measures them by counts or timestamps, where every row has them.
            escalation: of cascades; None leaves these out.
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
        """True if any request goes up a cascade."""
        return bool(self._cascades)

    @property
    def first_tiers(self) -> frozenset[str]:
        """Names of models and groups that cascades begin with."""
        return frozenset(name for tiers, _ in self._cascades.values() for name in tiers[0])

    def _default(self) -> str:
        """Return the model that requests use which name none; known once the pool is, and asked when it is needed."""
        if self._now is not None:
            return self._now
        if self._strongest is None:
            self._strongest = self._pool.strongest() or UNKNOWN
        return self._strongest

    def _tokens(self, row: RequestRow, needs: Needs) -> Usage:
        """Return the tokens of a request and its answer, counted where the row has them."""
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
        # A limit is what an answer may have at most, and most end long before it.
        if needs.output_is_set and needs.max_output_tokens < self._output_tokens:
            return "limited", needs.output_tokens
        return "assumed", self._output_tokens * needs.answers

    def _climb(self, row: RequestRow, decision: Decision, needs: Needs, usage: Usage, routed: float) -> None:
        """Add a compared request's cost by tier; without a cascade that of the routed call stands alone."""
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
            # The last tier's answer is given whatever it is like, and so no second one is compared with it.
            answers = 1 + (place < len(costs) - 1 and self._draws_samples(decision, tiers[place]))
            self._add_tier(place, row.count * cost * answers)

    def _draws_samples(self, decision: Decision, tier: Sequence[str]) -> bool:
        """Return whether the configuration compares a second answer of a tier with its first."""
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
        # A last day without a time is a whole one.
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
    """Route requests and add them; yield the errors of rows, and after each chunk the number of rows that were added.

    Args:
        tally: takes the requests.
        router: decides; :func:`without_calls` keeps it from calling a model.
        rows: as :func:`semroute.workflows.requests.read_requests` yields them.
    """
    waiting = iter(rows)
    while chunk := list(islice(waiting, CHUNK)):
        requests = [row for row in chunk if isinstance(row, RequestRow)]
        for row, decision in zip(requests, router.route_many([row.request for row in requests]), strict=True):
            tally.add(row, decision)
        yield from (row for row in chunk if isinstance(row, SemrouteError))
        yield tally.rows


def without_calls(config: Config) -> Config:
    """Return a configuration that decides without asking a model, and by one policy alone."""
    return config.model_copy(update={"judge": Judge(), "trial": ExperimentConfig()})


def _whole(count: float) -> float:
    """Return a number of requests, as an integer where it is one."""
    return int(count) if count.is_integer() else count


def _grouped(groups: dict[str, _Group], name: str) -> _Group:
    if name not in groups and len(groups) >= MOST_NAMES:
        name = OTHERS
    return groups.setdefault(name, _Group())


def _most_first(groups: Mapping[str, _Group]) -> list[tuple[str, _Group]]:
    return sorted(groups.items(), key=lambda entry: (-entry[1].requests, entry[0]))

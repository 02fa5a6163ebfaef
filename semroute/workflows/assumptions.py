"""Sentences about an estimate's assumptions and gaps."""

from __future__ import annotations

from collections.abc import Iterator

from semroute.data.examples import shortened
from semroute.workflows.estimate import OTHERS, UNKNOWN, Estimate, Source
from semroute.workflows.pool import PricedPool

_NO_RATE = 0.0005
"""Escalation rate below which it is shown as 0.0%."""
_LISTED = 5
"""Maximum names listed; --json has all."""


def assumptions(estimate: Estimate, pool: PricedPool, *, now_is_given: bool = False) -> Iterator[str]:
    """Yield the assumptions behind the figures, a sentence each.

    Args:
        estimate: the figures.
        pool: the models with their prices.
        now_is_given: whether the caller named the model in use today.
    """
    if estimate.assumed_now not in (None, UNKNOWN):
        whose = "all requests" if not estimate.named else f"the {1 - estimate.named:.1%} that name no model"
        why = "--now" if now_is_given else "the strongest of the pool; --now MODEL names another"
        yield f"now: {whose} go to {estimate.assumed_now} ({why})"
    yield from _prices(estimate, pool)
    yield from _tokens(estimate)
    if estimate.month is not None and estimate.month.days is not None:
        guess = ", less than a day: a month is a guess" if estimate.month.is_short else ""
        yield f"a month: the rows span {estimate.month.days:,.1f} days{guess}; --per-month N says otherwise"
    elif estimate.month is None:
        yield "for a month: --per-month N, or a timestamp in every row"
    cascade = estimate.cascade
    if cascade is None:
        return
    rates = cascade.escalation
    how = {"assumed": "an assumption; --escalation 20% sets it"}.get(rates.source, rates.source)
    yield f"cascade: {rates.low:.0%} to {rates.high:.0%} of a tier's answers go on to the next ({how})"
    even = cascade.break_even(estimate.routed_usd)
    if even is None or even < _NO_RATE:
        yield "the cascade costs more than routing at any rate"
    elif even >= 1.0:
        yield "the cascade costs less than routing at any rate"
    else:
        yield f"the cascade costs more than routing from {even:.1%} escalated on"


def summarized(estimate: Estimate, source: str) -> Iterator[str]:
    """Yield the assumptions in brief, and the command that changes them.

    Args:
        estimate: the figures.
        source: where the requests are from.
    """
    parts = [f"everything goes to {estimate.assumed_now} now"] if estimate.assumed_now not in (None, UNKNOWN) else []
    if any(share.priced_as for share in estimate.routed):
        parts.append("the prices are those of the example that semroute init writes")
    if "assumed" in estimate.outputs:
        parts.append(f"an answer has {estimate.output_tokens_assumed:,} tokens")
    if estimate.cascade is not None:
        rates = estimate.cascade.escalation
        parts.append(f"{rates.low:.0%} to {rates.high:.0%} go on ({rates.source})")
    yield f"assumed: {'; '.join(parts) or 'nothing but the number of input tokens'}"
    yield f"semroute estimate {source} sets these and more: --now, --price, --per-month, --cascade"


def gaps(estimate: Estimate, pool: PricedPool) -> Iterator[str]:
    """Yield requests missing from the bills, and remedies, a sentence each."""
    for name, requests in list(estimate.unpriced.items())[:_LISTED]:
        if name == UNKNOWN:
            yield "no model of the pool has a price: nothing to compare with; name one with --now and --price"
        elif name == OTHERS:
            yield f"more than a thousand names of models: {_requests(requests)} are counted together"
        else:
            meant = pool.meant(name)
            hint = "" if meant is None else f'did you mean "{meant}"? '
            fix = f"--price {_quoted(name)}=INPUT/OUTPUT of semroute estimate, USD per million tokens"
            yield (
                f"no price is known of {shortened(name)} ({_requests(requests)}): {hint}"
                f"give it under models in semroute.yaml, or with {fix}"
            )
    if len(estimate.unpriced) > _LISTED:
        yield f"{len(estimate.unpriced) - _LISTED:,} more models have no price; --json has them all"
    left = estimate.requests - estimate.compared
    if left > 0 and estimate.compared > 0:
        yield f"the bills are of {estimate.compared:,.0f} of {_requests(estimate.requests)}: the rest has no price"


def _prices(estimate: Estimate, pool: PricedPool) -> Iterator[str]:
    """Yield the assumed prices of logical names without their own."""
    examples = {
        share.model: share.priced_as for share in (*estimate.routed, *estimate.now) if share.priced_as is not None
    }
    if estimate.cascade is not None:
        names = (name for tier in estimate.cascade.tiers for name in tier.split(" or "))
        examples |= {name: found for name in names if (found := pool.example(name)) is not None}
    if examples:
        listed = ", ".join(f"{name} = {model}" for name, model in sorted(examples.items()))
        yield (
            f"prices: no deployments in semroute.yaml, so those of the example that semroute init writes are assumed "
            f"({listed}); --price NAME=INPUT/OUTPUT sets others"
        )


def _tokens(estimate: Estimate) -> Iterator[str]:
    if estimate.counted_inputs < 1.0:
        yield "input tokens: estimated without the vendor's tokenizer, mostly 1.2 to 1.6 times the truth"
    assumed = estimate.outputs.get("assumed", 0.0)
    known: dict[Source, str] = {"counted": "counted", "recorded": "of recorded answers", "limited": "at max_tokens"}
    parts = [f"{estimate.outputs[source]:.0%} {words}" for source, words in known.items() if source in estimate.outputs]
    if assumed:
        parts.append(f"{assumed:.0%} assumed to be {estimate.output_tokens_assumed:,} (--output-tokens)")
    yield f"output tokens: {', '.join(parts)}"


def _requests(count: float) -> str:
    return f"{count:,.0f} request{'s' * (count != 1)}"


def _quoted(name: str) -> str:
    return name if name.replace("-", "").replace(".", "").replace("/", "").isalnum() else f'"{name[:40]}"'

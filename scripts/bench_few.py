"""Measure accuracy with few examples, beside simple heads and a peer.

    python scripts/bench_few.py --data DIR [--label intent] [--encoder joined] [--examples 3,5,10,20,50] [--draws 5]
        [--rows test] [--foreign oos_test] [--peer PYTHON] [--vectors DIR] [--out FILE]

DIR holds ``train.jsonl`` and the files of ``--rows`` and ``--foreign``: JSON Lines with ``query`` and the key
``--label``, null where a query belongs to no category. Any labelled queries in this form will do; those of
``scripts/bench_clinc.py`` are CLINC150 (https://github.com/clinc/oos-eval, CC BY 3.0). For each draw, N examples of
every category are drawn from ``train``; all contenders get the same ones, and the same vectors. "semroute" is an index
as ``build-index`` makes it. The others take vectors alone: the nearest centroid, the 5 nearest neighbours weighted by
distance, logistic regression (C = 30), and linear discriminant analysis with a shrinkage of .9 up to ten examples and
.3 beyond (both chosen on ``val``, for accuracy). "With names" gives the words of a category's name as one more example,
as semroute does up to ten examples. ``--peer`` is the Python of an environment with semantic-router 1.1.1
(``scripts/peer_semantic_router.py`` says how to make one): its router gets the vectors through an encoder of its own
kind, with its defaults (mean of the 5 nearest) and with the sum of these in place of the mean.

Intervals are Student's, 95%, with a draw of the examples as the unit: the queries are the same in all draws.
``--vectors`` keeps the vectors for the next run. Needs the extra "build"; minutes to an hour.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from harness.processes import SCRIPTS, environment
from harness.report import DATA, OUT, VECTORS, head, publish, row
from numpy.typing import NDArray

from semroute.data.examples import Category, CategorySet
from semroute.encoders.cache import CachedEncoder
from semroute.evaluate.metrics import auroc
from semroute.learn.build import EncoderChoice, build_in_memory, make_encoder
from semroute.learn.few_examples import FEW, words_of
from semroute.types import Encoder, Matrix

Labels = NDArray[np.int64]
Scores = NDArray[np.floating]
OURS = "semroute"
STRONGEST = "logistic regression, with names"
PEER = {"semantic-router": "mean", "semantic-router, sum": "sum"}
"""The peer's contenders, with the aggregation of each."""
NEIGHBOURS = 5
CHUNK = 256


class StoredVectors(CachedEncoder):
    """Encoder that looks vectors up and embeds only texts without one."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self._vector_of: dict[str, Matrix] = {}

    def store(self, texts: Sequence[str], vectors: Matrix) -> None:
        """Add the vectors of some texts."""
        self._vector_of.update(zip(texts, vectors, strict=True))

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Return ``(len(texts), dimensions)`` vectors."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._vector_of]
        if missing:
            self.store(missing, self.encoder.encode(missing))
        return np.stack([self._vector_of[text] for text in texts])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled queries with their vectors; ``labels`` are numbers of names."""

    texts: Sequence[str]
    vectors: Matrix
    labels: Labels

    def only(self, rows: Labels) -> Labelled:
        """Return the queries of these rows."""
        return Labelled([self.texts[place] for place in rows.tolist()], self.vectors[rows], self.labels[rows])


@dataclass(frozen=True, slots=True)
class Data:
    """Rows of a measurement: training, test, and foreign queries."""

    names: Sequence[str]
    train: Labelled
    test: Labelled
    foreign: Labelled
    encoder: StoredVectors


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of a contender in one draw; ``auroc`` is None without scores."""

    accuracy: float
    auroc: float | None = None


@click.command()
@DATA
@click.option("--label", default="intent", show_default=True, help="Key of the rows that holds the category.")
@click.option("--encoder", type=click.Choice(["onnx", "multilingual", "joined"]), default="joined", show_default=True)
@click.option("--examples", default="3,5,10,20,50", show_default=True, help="Examples of each category.")
@click.option("--draws", type=click.IntRange(2), default=5, show_default=True)
@click.option("--rows", default="test", show_default=True, help="File of the queries that are routed.")
@click.option("--foreign", default="oos_test", show_default=True, help="File of queries of no category.")
@click.option("--peer", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Python of the peer.")
@VECTORS
@OUT
def main(
    data: Path,
    label: str,
    encoder: str,
    examples: str,
    draws: int,
    rows: str,
    foreign: str,
    peer: Path | None,
    vectors: Path | None,
    out: Path | None,
) -> None:
    """Draw, fit and test, and print Markdown tables."""
    with TemporaryDirectory(prefix="semroute-bench-") as work:
        made = make_encoder(EncoderChoice(kind=encoder), Path(work))  # type: ignore[arg-type]
        read = read_data(data, (rows, foreign), label, StoredVectors(made), vectors)
        found: dict[int, list[dict[str, Result]]] = {}
        for count in map(int, examples.split(",")):
            found[count] = [measure(read, draw(read, count, number), peer, Path(work)) for number in range(draws)]
    publish(tables(found), out)


def read_data(folder: Path, tests: tuple[str, str], label: str, encoder: StoredVectors, vectors: Path | None) -> Data:
    """Read and embed the files."""
    read = {}
    for file in ("train", *tests):
        path = folder / f"{file}.jsonl"
        entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        texts, owners = [entry["query"] for entry in entries], [entry.get(label) for entry in entries]
        read[file] = texts, owners, embedded(encoder, texts, file, vectors)
    names = sorted({owner for owner in read["train"][1] if owner is not None})
    number = {name: place for place, name in enumerate(names)}

    def part(file: str, *, known: bool = True) -> Labelled:
        texts, owners, matrix = read[file]
        labels = np.array([number.get(owner, -1) for owner in owners], dtype=np.int64)
        whole = Labelled(texts, matrix, labels)
        return whole.only(np.flatnonzero((labels >= 0) == known))

    return Data(names, part("train"), part(tests[0]), part(tests[1], known=False), encoder)


def embedded(encoder: StoredVectors, texts: Sequence[str], file: str, folder: Path | None) -> Matrix:
    """Embed the texts of a file, or read their vectors of an earlier run."""
    name = hashlib.sha256("\n".join([encoder.fingerprint, *texts]).encode()).hexdigest()[:16]
    path = None if folder is None else folder / f"{file}-{name}.npy"
    if path is not None and path.exists():
        vectors: Matrix = np.load(path)
    else:
        parts = [encoder.encoder.encode(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
        vectors = np.concatenate([np.zeros((0, encoder.dimensions), np.float32), *parts])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, vectors)
    encoder.store(texts, vectors)
    return vectors


def draw(data: Data, count: int, seed: int) -> Labelled:
    """Draw ``count`` examples of every category, all of one that has fewer."""
    random = np.random.default_rng(seed)
    rows = [
        random.permutation(np.flatnonzero(data.train.labels == category))[:count] for category in range(len(data.names))
    ]
    return data.train.only(np.concatenate(rows))


def measure(data: Data, drawn: Labelled, peer: Path | None, work: Path) -> dict[str, Result]:
    """Return the figures of all contenders with the drawn examples."""
    named = drawn
    if len(drawn.labels) <= FEW * len(data.names):
        words = [words_of(name) for name in data.names]
        said = np.flatnonzero([bool(word) for word in words])
        vectors = data.encoder.encode([words[place] for place in said.tolist()])
        named = Labelled([], np.concatenate([drawn.vectors, vectors]), np.concatenate([drawn.labels, said]))
    fits: dict[str, Callable[[Matrix], Scores]] = {
        OURS: ours(data, drawn),
        "centroid": centroid(drawn),
        f"{NEIGHBOURS} neighbours": neighbours(drawn),
        "logistic regression": logistic(drawn),
        "LDA": discriminant(drawn, len(data.names)),
        STRONGEST: logistic(named),
    }
    results = {}
    for name, scores in fits.items():
        inside = scores(data.test.vectors)
        outside = scores(data.foreign.vectors) if len(data.foreign.labels) else None
        right = float((inside.argmax(axis=1) == data.test.labels).mean())
        separation = None if outside is None else auroc(inside.max(axis=1), outside.max(axis=1))
        results[name] = Result(right, separation)
    if peer is not None:
        results |= {name: Result(right) for name, right in ask_peer(peer, data, drawn, work).items()}
    return results


def ours(data: Data, drawn: Labelled) -> Callable[[Matrix], Scores]:
    """Build an index of the drawn examples; return its scores."""
    categories = [
        Category(name, "", (), tuple(dict.fromkeys(drawn.only(np.flatnonzero(drawn.labels == place)).texts)))
        for place, name in enumerate(data.names)
    ]
    return build_in_memory(CategorySet(tuple(categories), ()), data.encoder).scorer.scores


def centroid(drawn: Labelled) -> Callable[[Matrix], Scores]:
    """Return cosines to the mean vector of each category."""
    means = np.stack([drawn.vectors[drawn.labels == place].mean(axis=0) for place in range(drawn.labels.max() + 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return lambda vectors: vectors @ means.T


def neighbours(drawn: Labelled) -> Callable[[Matrix], Scores]:
    """Return the votes of the nearest examples."""
    from sklearn.neighbors import KNeighborsClassifier

    voters = KNeighborsClassifier(min(NEIGHBOURS, len(drawn.labels)), weights="distance", metric="cosine")
    return voters.fit(drawn.vectors, drawn.labels).predict_proba  # type: ignore[no-any-return]


def logistic(drawn: Labelled) -> Callable[[Matrix], Scores]:
    """Return the probabilities of a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=30, max_iter=300).fit(drawn.vectors, drawn.labels).predict_proba  # type: ignore[no-any-return]


def discriminant(drawn: Labelled, categories: int) -> Callable[[Matrix], Scores]:
    """Return the probabilities of a linear discriminant analysis."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    shrinkage = 0.9 if len(drawn.labels) <= FEW * categories else 0.3
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    return analysis.fit(drawn.vectors, drawn.labels).predict_proba  # type: ignore[no-any-return]


def ask_peer(python: Path, data: Data, drawn: Labelled, work: Path) -> Mapping[str, float]:
    """Return the peer's accuracy by the name of its contenders."""
    folder = work / "peer"
    folder.mkdir(exist_ok=True)
    np.save(folder / "vectors.npy", np.concatenate([drawn.vectors, data.test.vectors]))
    parts = {
        name: [[data.names[label], text] for text, label in zip(part.texts, part.labels.tolist(), strict=True)]
        for name, part in (("examples", drawn), ("queries", data.test))
    }
    (folder / "rows.json").write_text(json.dumps({**parts, "aggregations": PEER}), "utf-8")
    command = [str(python), str(SCRIPTS / "peer_semantic_router.py"), "--vectors", str(folder)]
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
    found: dict[str, float] = json.loads((folder / "accuracy.json").read_text("utf-8"))
    return found


def tables(found: Mapping[int, Sequence[Mapping[str, Result]]]) -> Iterator[str]:
    """Yield a table of accuracy, one of differences, and one of AUROC."""
    contenders = list(next(iter(found.values()))[0])
    yield from head("accuracy, by examples", *found)
    for name in contenders:
        yield row(name, *(_share([drawn[name].accuracy for drawn in draws]) for draws in found.values()))
    yield ""
    yield from head("semroute's accuracy less that of", *found)
    for name in contenders[1:]:
        cells = [[drawn[OURS].accuracy - drawn[name].accuracy for drawn in draws] for draws in found.values()]
        yield row(name, *(_share(cell, sign="+") for cell in cells))
    scored = [name for name in contenders if all(drawn[name].auroc for draws in found.values() for drawn in draws)]
    if scored:
        yield ""
        yield from head("OOS AUROC, by examples", *found)
    for name in scored:
        figures = [[drawn[name].auroc or 0.0 for drawn in draws] for draws in found.values()]
        yield row(name, *(_figure(cell) for cell in figures))


def student(values: Sequence[float]) -> tuple[float, float]:
    """Return a mean and the half width of its 95% interval."""
    from scipy.stats import t

    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)), float(t.ppf(0.975, len(values) - 1)) * spread


def _share(values: Sequence[float], sign: str = "") -> str:
    mean, half = student(values)
    return f"{100 * mean:{sign}.1f} ({100 * (mean - half):{sign}.1f} to {100 * (mean + half):{sign}.1f})"


def _figure(values: Sequence[float]) -> str:
    mean, half = student(values)
    return f"{mean:.3f} ({mean - half:.3f} to {mean + half:.3f})"


if __name__ == "__main__":
    main()

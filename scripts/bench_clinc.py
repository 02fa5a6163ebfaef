"""Measure accuracy, out-of-scope detection and calibration on CLINC150.

Writes the table of ``scripts/README.md``:

    python scripts/bench_clinc.py --data DIR [--tune-encoder] [--first-stage] [--labels domains|intents]
        [--encoder onnx|multilingual|joined] [--out FILE]

DIR holds ``train``, ``val``, ``test``, ``oos_train``, ``oos_val`` and ``oos_test`` as JSON Lines with ``query``,
``intent`` and ``category``, made from the public data of Larson et al. 2019 (https://github.com/clinc/oos-eval, CC BY
3.0). Indexes are built from ``train``; thresholds and calibration come from ``val``, ``oos_train`` and ``oos_val``;
``test`` and ``oos_test`` are only for the figures. No setting is specific to the data: any user can run it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from harness.report import DATA, head
from numpy.typing import NDArray

from semroute.data.examples import LabelledQuery
from semroute.evaluate.metrics import accuracy, auroc
from semroute.evaluate.routing import Evaluation, ScoredQueries, evaluate
from semroute.learn.build import EncoderChoice, build_index
from semroute.learn.encoder import TuningPlan
from semroute.router import Router
from semroute.workflows.measure import score_rows

KEYS = {"domains": "category", "intents": "intent"}
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one set of labels.

    Intervals are 95% bootstrap intervals over the test rows.
    """

    labels: str
    encoder: str
    encoder_tuned: bool
    accuracy_in_scope: float
    accuracy_interval: tuple[float, float]
    oos_auroc: float
    auroc_interval: tuple[float, float]
    oos_recall: float
    false_rejection: float
    ece: float
    build_s: float
    prototypes_per_category: int
    head_weight: float


@click.command()
@DATA
@click.option("--labels", type=click.Choice([*KEYS, "both"]), default="both", show_default=True)
@click.option("--encoder", type=click.Choice(["onnx", "multilingual", "joined"]), default="onnx", show_default=True)
@click.option("--tune-encoder", is_flag=True, help="Tune the encoder on the examples first (minutes).")
@click.option("--first-stage", is_flag=True, help="Put a static encoder in front.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the results as JSON, too.")
def main(data: Path, labels: str, encoder: str, tune_encoder: bool, first_stage: bool, out: Path | None) -> None:
    """Build, tune and test on CLINC150, and print a Markdown table."""
    results = [measure(data, name, encoder, tune_encoder, first_stage) for name in KEYS if labels in (name, "both")]
    if out is not None:
        out.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", encoding="utf-8")
    click.echo(table(results))


def measure(data: Path, labels: str, encoder: str, tune_encoder: bool, first_stage: bool) -> Result:
    """Build an index for one set of labels, and test it.

    The index lies in a temporary folder.
    """
    with TemporaryDirectory(prefix="semroute-bench-") as work:
        source = Path(work) / "categories"
        write_categories(rows(data, ["train"], labels), source)
        start = time.perf_counter()
        built = build_index(
            source,
            Path(work) / "index",
            encoder=EncoderChoice(kind=encoder),  # type: ignore[arg-type]
            tune=TuningPlan() if tune_encoder else None,
            first_stage=first_stage,
            validation=rows(data, ["val", "oos_train", "oos_val"], labels),
        )
        seconds = time.perf_counter() - start
        live = Router.load(built.artifact.folder).live
        scored = score_rows(live, rows(data, ["test", "oos_test"], labels))
        figures = evaluate(scored, live.semantic.thresholds)
    report = built.artifact.manifest.validation
    return _result(
        labels,
        encoder,
        tune_encoder,
        scored,
        figures,
        seconds,
        report["prototypes_per_category"],
        report["head_weight"],
    )


def _result(
    labels: str,
    encoder: str,
    tuned: bool,
    scored: ScoredQueries,
    figures: Evaluation,
    seconds: float,
    prototypes: int,
    weight: float,
) -> Result:
    accuracies, aurocs = bootstrap(scored)
    return Result(
        labels=labels,
        encoder=encoder,
        encoder_tuned=tuned,
        accuracy_in_scope=figures.accuracy_in_scope or 0.0,
        accuracy_interval=_interval(accuracies),
        oos_auroc=figures.oos_auroc or 0.0,
        auroc_interval=_interval(aurocs),
        oos_recall=figures.oos_recall or 0.0,
        false_rejection=figures.false_rejection or 0.0,
        ece=figures.ece or 0.0,
        build_s=seconds,
        prototypes_per_category=prototypes,
        head_weight=weight,
    )


def bootstrap(scored: ScoredQueries) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return in-scope accuracy and AUROC of resampled test rows.

    In-scope and out-of-scope rows are resampled separately.
    """
    random = np.random.default_rng(0)
    inside, outside = np.flatnonzero(scored.in_scope), np.flatnonzero(~scored.in_scope)
    best = scored.scores.max(axis=1)
    drawn = []
    for _ in range(RESAMPLES):
        a, b = random.choice(inside, len(inside)), random.choice(outside, len(outside))
        drawn.append((accuracy(scored.scores[a], scored.labels[a]), auroc(best[a], best[b])))
    found = np.array(drawn, dtype=np.float64)
    return found[:, 0], found[:, 1]


def rows(data: Path, splits: list[str], labels: str) -> list[LabelledQuery]:
    """Return the rows of some splits with the wanted label."""
    lines = [line for split in splits for line in (data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
    values = [json.loads(line) for line in lines]
    return [LabelledQuery(value["query"], value[KEYS[labels]]) for value in values]


def write_categories(examples: list[LabelledQuery], folder: Path) -> None:
    """Write one ``<category>.jsonl`` for each label."""
    folder.mkdir()
    for name in sorted({row.category for row in examples if row.category is not None}):
        lines = [json.dumps({"query": row.query}) + "\n" for row in examples if row.category == name]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def table(results: list[Result]) -> str:
    """Return the results as a Markdown table."""
    names = "labels", "encoder", "in-scope accuracy", "OOS AUROC", "OOS recall", "false rejection", "ECE", "build"
    lines = head(*names)
    for r in results:
        low, high = (100 * end for end in r.accuracy_interval)
        lines.append(
            f"| {r.labels} | {r.encoder}, {'tuned' if r.encoder_tuned else 'as it comes'} "
            f"| {100 * r.accuracy_in_scope:.2f}% ({low:.2f} to {high:.2f}) "
            f"| {r.oos_auroc:.4f} ({r.auroc_interval[0]:.4f} to {r.auroc_interval[1]:.4f}) "
            f"| {100 * r.oos_recall:.1f}% | {100 * r.false_rejection:.1f}% | {r.ece:.4f} | {r.build_s:.0f} s |"
        )
    return "\n".join(lines)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()

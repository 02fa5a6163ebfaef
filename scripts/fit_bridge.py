"""Fit the bridge from the multilingual to the built-in encoder.

Writes ``semroute/encoders/joined_bridge.npz``:

    python scripts/fit_bridge.py [CATEGORIES]

Ridge regression on the vectors of every ASCII example of the category files (by default the shipped ones): the others
are mostly requests to translate with words that the English encoder does not know. It must run again only when one of
the encoders or the shipped examples change: the bridge is a part of the joined encoder's fingerprint. Gate and weight
were chosen on the shipped categories (``scripts/bench_languages.py``).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from semroute.data.categories import read_categories
from semroute.encoders.export import BRIDGE, DEFAULT_MODEL, export_multilingual, export_onnx

OUT = Path(__file__).resolve().parent.parent / "semroute" / "encoders" / BRIDGE
PENALTY = 1.0
GATE = 0.4, 20.0
"""Cosine at which the English and the bridged vector count the same, and the steepness there."""
WEIGHT = 1.2


@click.command()
@click.argument("categories", default="categories", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(categories: Path) -> None:
    """Fit and write."""
    texts = [text for category in read_categories(categories).categories for text in category.examples]
    texts = [text for text in texts if text.isascii()]
    with TemporaryDirectory() as work:
        english = export_onnx(DEFAULT_MODEL, Path(work) / "english").load().encode(texts)
        multilingual = export_multilingual(Path(work) / "multilingual").encode(texts)
    bridge = ridge(multilingual.astype(np.float64), english.astype(np.float64))
    # Two bytes are more than enough, and hide the differences of the last fp32 digits between processors.
    np.savez_compressed(
        OUT, map=bridge.astype(np.float16), gate=np.array(GATE, np.float32), weight=np.array(WEIGHT, np.float32)
    )
    agreement = _cosines(multilingual @ bridge[:-1] + bridge[-1], english)
    click.echo(
        f"{OUT.name}: {len(texts):,} texts, median cosine {np.median(agreement):.3f}, {OUT.stat().st_size:,} bytes"
    )


def ridge(inputs: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the linear map of penalised least squares.

    The constant has no penalty.

    Args:
        inputs: ``(n, d)``.
        targets: ``(n, e)``.

    Returns:
        ``(d + 1, e)``, the constant in the last row.
    """
    centre, target = inputs.mean(axis=0), targets.mean(axis=0)
    centred = inputs - centre
    gram = centred.T @ centred + PENALTY * np.eye(inputs.shape[1])
    matrix = np.linalg.solve(gram, centred.T @ (targets - target))
    return np.concatenate([matrix, (target - centre @ matrix)[None, :]])


def _cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return product


if __name__ == "__main__":
    main()

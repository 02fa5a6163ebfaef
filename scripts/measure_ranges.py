"""Measure the built-in encoder's activation ranges.

Writes ``semroute/encoders/minilm_ranges.npz``:

    python scripts/measure_ranges.py [CATEGORIES]

Runs the fp32 graph over every example of the category files (by default the shipped ones), and keeps the minimum and
the maximum of each channel wherever :mod:`semroute.encoders.minilm` quantises by a fixed range. It must run again only
when the weights, the shipped examples or the quantised nodes change: ranges are a part of the encoder's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from semroute.data.categories import read_categories
from semroute.encoders.minilm import build_graph, packaged_model, read_weights
from semroute.encoders.onnx import Tokens, padded, runtime

OUT = Path(__file__).resolve().parent.parent / "semroute" / "encoders" / "minilm_ranges.npz"
MAX_TOKENS = 256


@click.command()
@click.argument("categories", default="categories", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(categories: Path) -> None:
    """Measure and write."""
    folder = packaged_model()
    graph = build_graph(read_weights(folder), "fp32", observable=True)
    session = runtime().InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()][1:]
    tokens = Tokens(folder / "tokenizer.json", MAX_TOKENS)
    texts = [text for category in read_categories(categories).categories for text in category.examples]
    ranges: dict[str, NDArray[np.float32]] = {}
    for text in texts:
        input_ids, mask = padded(tokens([text]))
        found = session.run(names, {"input_ids": input_ids, "attention_mask": mask})
        for name, values in zip(names, found, strict=True):
            low, high = values.min(axis=0), values.max(axis=0)
            ranges[f"{name}.low"] = np.minimum(ranges.get(f"{name}.low", low), low)
            ranges[f"{name}.high"] = np.maximum(ranges.get(f"{name}.high", high), high)
    # Two bytes are more than enough, and hide the differences of the last fp32 digits between processors.
    stored: dict[str, Any] = {name: values.astype(np.float16) for name, values in ranges.items()}
    np.savez_compressed(OUT, **stored)
    click.echo(f"{OUT.name}: {len(names)} ranges from {len(texts):,} texts, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

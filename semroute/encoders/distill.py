"""A static encoder distilled from a transformer by model2vec; at build time only (extra "static").

Method: https://github.com/MinishLab/model2vec. Every token of the vocabulary goes through the transformer alone;
principal components and a weight by rank (frequent tokens count less) make the table.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semroute.encoders import fingerprint
from semroute.encoders.sentence import load, name_of
from semroute.encoders.static import StaticEncoder
from semroute.errors import EncoderError
from semroute.extras import require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DIMENSIONS = 256


def distill_static(
    model: str | Path | SentenceTransformer, folder: Path, *, name: str | None = None, dimensions: int = DIMENSIONS
) -> StaticEncoder:
    """Write ``static.npy`` (float16) and ``static-tokenizer.json`` into ``folder``; about 20 s for a MiniLM on 2 cores.

    The vectors have their own dimensions, not the model's: they are another space.

    Args:
        model: a sentence-transformers model: the built-in one, a folder, a name on the hub, or one already loaded
            (which is left as it is).
        folder: made if missing.
        name: for people; the model's own with "static" before it when None.
        dimensions: principal components kept.

    Raises:
        EncoderError: no such model, or one that cannot be distilled.
        MissingExtraError: the extra "static" or "build" is not installed.
    """
    model2vec = require("model2vec.distill", what="distilling a static encoder", extra="static")
    sentence = load(model, what="distilling a static encoder")
    name = name or f"static {name_of(model)}"
    folder.mkdir(parents=True, exist_ok=True)
    # A copy, since distilling changes the model; named after a folder, since model2vec asks the hub about other names.
    first: Any = sentence[0]
    transformer = copy.deepcopy(first.auto_model).to("cpu").float().eval()
    transformer.name_or_path = str(folder)
    try:
        distilled = model2vec.distill_from_model(transformer, sentence.tokenizer, device="cpu", pca_dims=dimensions)
    except Exception as error:  # model2vec, skeletoken and torch each fail in classes of their own
        raise EncoderError(f'model "{name_of(model)}" cannot be distilled: {error}') from error

    table_path, tokenizer_path = folder / "static.npy", folder / "static-tokenizer.json"
    np.save(table_path, np.asarray(distilled.embedding, dtype=np.float16), allow_pickle=False)
    distilled.tokenizer.save(str(tokenizer_path))
    return StaticEncoder(
        table_path, tokenizer_path, name=name, fingerprint=fingerprint.of_files(table_path, tokenizer_path)
    )

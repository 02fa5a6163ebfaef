"""Static encoder: a text is the mean of its tokens' vectors.

Inference needs numpy and ``tokenizers`` alone; :func:`distill_static` makes the files with model2vec.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semroute._optional import require
from semroute.arrays import read_npy
from semroute.encoders import fingerprint
from semroute.encoders.export import load, name_of
from semroute.encoders.onnx import Tokens, unknown_id
from semroute.errors import EncoderError
from semroute.types import Matrix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


MAX_TOKENS = 512
BATCH = 1024
"""Texts whose token vectors are gathered at once; bounds the memory."""


class StaticEncoder:
    """Encoder by a table of token vectors. Safe to share between threads.

    Unknown tokens are left out. A text without any known token gets the mean direction of the table: a vector like any
    other, close to nothing in particular.

    Args:
        table_path: a ``.npy`` file with the token vectors, ``(tokens, dimensions)`` float16 or float32.
        tokenizer_path: its ``tokenizer.json``.
        name: display name.
        fingerprint: changes whenever the same text could get another vector.
        max_tokens: longer texts keep head and tail.

    Raises:
        EncoderError: a file is missing or damaged, or the two do not belong together.
    """

    waits = False
    """It computes, and waits for nobody: concurrent queries may share one thread."""

    def __init__(
        self,
        table_path: Path | str,
        tokenizer_path: Path | str,
        *,
        name: str,
        fingerprint: str,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.max_tokens = max_tokens
        self.table_path = Path(table_path)
        self.tokenizer_path = Path(tokenizer_path)
        self._table = _read_table(self.table_path)
        self.dimensions = int(self._table.shape[1])
        self._tokens = Tokens(self.tokenizer_path, max_tokens, special=False)
        self._unknown = unknown_id(self.tokenizer_path)
        if self._tokens.vocabulary_size != len(self._table):
            raise EncoderError(
                f"{self.table_path} has {len(self._table)} rows, but {self.tokenizer_path} has "
                f"{self._tokens.vocabulary_size} tokens"
            )
        self._nowhere = _unit(self._table.mean(axis=0, dtype=np.float32)[None, :], _first_axis(self.dimensions))[0]

    def __repr__(self) -> str:
        return f"StaticEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``, in order.

        Returns ``(len(texts), dimensions)`` float32, unit rows.
        """
        ids = [self._known(tokens) for tokens in self._tokens(texts)]
        vectors = np.zeros((len(ids), self.dimensions), dtype=np.float32)
        for start in range(0, len(ids), BATCH):
            rows = [row for row in range(start, min(start + BATCH, len(ids))) if len(ids[row])]
            if rows:
                counts = [len(ids[row]) for row in rows]
                tokens = self._table[np.concatenate([ids[row] for row in rows])].astype(np.float32)
                # A sum has the direction of the mean, and only the direction stays.
                vectors[rows] = np.add.reduceat(tokens, np.cumsum([0, *counts[:-1]]), axis=0)
        return _unit(vectors, self._nowhere)

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text if the tokenizer knows none of its words."""
        return self._tokens.unknown(texts)

    def _known(self, tokens: Sequence[int]) -> Sequence[int]:
        return [token for token in tokens if token != self._unknown]


def _read_table(path: Path) -> Matrix:
    try:
        table: Matrix = read_npy(path)
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: not a usable table of token vectors ({error})") from error
    if table.ndim != 2 or not table.size or table.dtype.kind != "f":
        raise EncoderError(f"{path}: not a table of token vectors: two-dimensional floating point is needed")
    if not np.isfinite(table).all():
        raise EncoderError(f"{path}: a token's vector is not finite")
    return table


def _first_axis(dimensions: int) -> Matrix:
    axis = np.zeros(dimensions, dtype=np.float32)
    axis[0] = 1
    return axis


def _unit(vectors: Matrix, fallback: Matrix) -> Matrix:
    """Scale rows of ``vectors`` to unit length.

    Rows without a direction become ``fallback``.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    is_nonzero = lengths > 1e-9
    unit: Matrix = np.where(is_nonzero, vectors / np.where(is_nonzero, lengths, 1), fallback).astype(np.float32)
    return unit


# Distillation from a transformer by model2vec; at build time only (extra "static").
#
# Method: https://github.com/MinishLab/model2vec. Every token of the vocabulary goes through the transformer alone;
# principal components and a weight by rank (frequent tokens count less) make the table.

DIMENSIONS = 256


def distill_static(
    model: str | Path | SentenceTransformer, folder: Path, *, name: str | None = None, dimensions: int = DIMENSIONS
) -> StaticEncoder:
    """Distil a static encoder from a transformer into ``folder``.

    Writes ``static.npy`` (float16) and ``static-tokenizer.json``; about 20 s for a MiniLM on 2 cores.

    The vectors have their own dimensions, not the model's: they are another space.

    Args:
        model: a sentence-transformers model: the built-in one, a folder, a name on the hub, or one already loaded
            (which is left as it is).
        folder: created if missing.
        name: display name; the model's own with "static" before it when None.
        dimensions: principal components kept.

    Raises:
        EncoderError: no such model, or one that cannot be distilled.
        MissingExtraError: the extra "static" or "build" is not installed.
    """
    model2vec = require("model2vec.distill", what="distilling a static encoder", extra="static")
    sentence = load(model, purpose="distilling a static encoder")
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

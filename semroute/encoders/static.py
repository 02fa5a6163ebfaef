"""The static encoder: a vector per token, and a text is the mean of its tokens' vectors.

It is numpy and ``tokenizers`` alone; :mod:`semroute.encoders.distill` makes its files with model2vec.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semroute.arrays import read_npy
from semroute.errors import EncoderError
from semroute.inference.tokens import MOST_BYTES, Tokens
from semroute.types import Matrix
from semroute.whole import read_json

MAX_TOKENS = 512
BATCH = 1024
"""Texts whose token vectors are gathered at once; bounds the memory."""


class StaticEncoder:
    """Text to unit vectors by a table of token vectors. Safe to share between threads.

    Unknown tokens are left out. A text without any known token gets the mean direction of the table: a vector like any
    other, close to nothing in particular.

    Args:
        table_path: a ``.npy`` file with the token vectors, ``(tokens, dimensions)`` float16 or float32.
        tokenizer_path: its ``tokenizer.json``.
        name: for people.
        fingerprint: changes whenever the same text could get another vector.
        max_tokens: longer texts keep head and tail.

    Raises:
        EncoderError: a file is missing or damaged, or the two do not belong together.
    """

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
        self._unknown = _unknown_id(self.tokenizer_path)
        if self._tokens.vocabulary_size != len(self._table):
            raise EncoderError(
                f"{self.table_path} has {len(self._table)} rows, but {self.tokenizer_path} has "
                f"{self._tokens.vocabulary_size} tokens"
            )
        self._nowhere = _unit(self._table.mean(axis=0, dtype=np.float32)[None, :], _first_axis(self.dimensions))[0]

    def __repr__(self) -> str:
        return f"StaticEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``; ``(len(texts), dimensions)`` float32, unit rows, in the order of ``texts``."""
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


def _unknown_id(tokenizer_path: Path) -> int | None:
    try:
        model = read_json(tokenizer_path, MOST_BYTES)["model"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EncoderError(f"{tokenizer_path}: not a usable tokenizer.json ({error})") from error
    if not isinstance(model, dict):
        raise EncoderError(f"{tokenizer_path}: not a usable tokenizer.json (it has no model)")
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    vocabulary = model.get("vocab")
    unknown = vocabulary.get(model.get("unk_token")) if isinstance(vocabulary, dict) else None
    return unknown if isinstance(unknown, int) else None


def _first_axis(dimensions: int) -> Matrix:
    axis = np.zeros(dimensions, dtype=np.float32)
    axis[0] = 1
    return axis


def _unit(vectors: Matrix, otherwise: Matrix) -> Matrix:
    """Rows of ``vectors`` at unit length; ``otherwise`` in place of rows without a direction."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    somewhere = lengths > 1e-9
    unit: Matrix = np.where(somewhere, vectors / np.where(somewhere, lengths, 1), otherwise).astype(np.float32)
    return unit

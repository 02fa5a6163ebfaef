"""Encoder by any sentence-transformers model on torch.

For models that cannot be exported to ONNX; needs the extra "torch".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semroute import forks
from semroute.encoders import fingerprint
from semroute.encoders.export import load, name_of
from semroute.text.normalise import head_and_tail_text, prepare
from semroute.types import Matrix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MAX_TOKENS = 512
"""Token limit of a model that states none."""


class TorchEncoder:
    """Encoder by a sentence-transformers model on torch.

    Safe to share between threads, which take turns.

    Args:
        model: the built-in model's name, a folder, a name on the hub, or a loaded model.

    Raises:
        EncoderError: there is no such model, or it cannot be loaded.
        MissingExtraError: the extra "torch" is not installed.
    """

    waits = False
    """It computes, and waits for nobody: concurrent queries may share one thread."""

    def __init__(self, model: str | Path | SentenceTransformer) -> None:
        self._sentence = load(model, purpose="the torch encoder")
        self.source = str(model) if isinstance(model, str | Path) else None
        self.name = name_of(model)
        self.max_tokens = int(self._sentence.max_seq_length or MAX_TOKENS)
        self._lock = forks.lock()
        forks.in_child(self, TorchEncoder._after_fork)
        self._tokenizer = _tokenizer(self._sentence)
        self.fingerprint = _fingerprint(self._sentence)
        self.dimensions = int(self._encode(["."]).shape[1])

    def __repr__(self) -> str:
        return f"TorchEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``, in order.

        Returns ``(len(texts), dimensions)`` float32, unit rows.
        """
        prepared = [self._shorten(text) for text in prepare(texts, self.max_tokens)]
        return self._encode(prepared) if prepared else np.empty((0, self.dimensions), dtype=np.float32)

    def _encode(self, texts: list[str]) -> Matrix:
        with self._lock:
            vectors = self._sentence.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def _after_fork(self) -> None:
        # OpenMP keeps a team of threads for each thread that has used it; the one that forks would wait for its own.
        import torch

        torch.set_num_threads(1)

    def _shorten(self, text: str) -> str:
        # sentence-transformers would keep the head alone.
        if self._tokenizer is None or len(text) <= self.max_tokens // 2:
            return text
        limit = self.max_tokens - self._tokenizer.num_special_tokens_to_add(False)
        return head_and_tail_text(text, self._tokenizer.encode(text, add_special_tokens=False).offsets, limit)


def _tokenizer(sentence: SentenceTransformer) -> Any:
    """Return a copy of the model's tokenizer that does not truncate.

    None where it is not one of ``tokenizers``.
    """
    backend = getattr(sentence.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _fingerprint(sentence: SentenceTransformer) -> str:
    tokenizer = _tokenizer(sentence)
    pipeline: list[Any] = list(sentence)
    modules: list[tuple[str, Any]] = [
        (type(module).__name__, getattr(module, "get_config_dict", dict)()) for module in pipeline
    ]
    return fingerprint.of_arrays(
        {name: tensor.detach().cpu().float().numpy() for name, tensor in sentence.state_dict().items()},
        json.dumps([modules, sentence.max_seq_length], default=str, sort_keys=True),
        tokenizer.to_str() if tokenizer is not None else "",
    )

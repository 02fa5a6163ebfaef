"""The default encoder: a sentence transformer as one int8 ONNX graph, run by ONNX Runtime on the CPU.

It needs neither torch nor sentence-transformers; :mod:`semroute.encoders.export` makes its files.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.encoders.tokens import Tokens
from semroute.errors import EncoderError
from semroute.types import Matrix

BATCH = 24
"""Most texts, of similar length, in one run: more gain nothing on a CPU, and cost padding."""

BATCH_TOKENS = 1024
"""Most tokens in one run, unless a single text has more: what bounds the memory."""


class OnnxEncoder:
    """Text to unit vectors by an ONNX graph that holds the pooling and the normalisation too.

    The graph takes ``input_ids`` and ``attention_mask`` (and ``token_type_ids`` where it has that input), int64
    ``(batch, tokens)``, and gives float32 ``(batch, dimensions)`` unit rows. Safe to share between threads.

    Args:
        model_path: the ``.onnx`` file.
        tokenizer_path: its ``tokenizer.json``.
        name: for people.
        fingerprint: changes whenever the same text could get another vector.
        dimensions: length of a vector.
        max_tokens: longer texts keep head and tail.
        threads: threads that share many texts; as many as there are cores when None.

    Raises:
        EncoderError: a file is missing or damaged, or the graph's output has other dimensions.
    """

    def __init__(
        self,
        model_path: Path | str,
        tokenizer_path: Path | str,
        *,
        name: str,
        fingerprint: str,
        dimensions: int,
        max_tokens: int = 256,
        threads: int | None = None,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.model_path = Path(model_path)
        self.tokenizer_path = Path(tokenizer_path)
        self._threads = threads or available_cores()
        self._tokens = Tokens(self.tokenizer_path, max_tokens)
        self._session = _session(self.model_path)
        self._inputs = {graph_input.name for graph_input in self._session.get_inputs()}
        self._lock = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        width = self._session.get_outputs()[0].shape[-1]
        if width != dimensions:
            raise EncoderError(f"{self.model_path}: gives vectors of {width} dimensions, not {dimensions}")

    def __repr__(self) -> str:
        return f"OnnxEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``; ``(len(texts), dimensions)`` float32, unit rows, in the order of ``texts``."""
        # A text without a token still needs one position; id 0 is the padding or the unknown token by custom.
        ids = [tokens or [0] for tokens in self._tokens(texts)]
        if len(ids) == 1:
            return self._run(ids)
        # Small batches when there are few texts, so that all threads have work.
        batches = _batches([len(tokens) for tokens in ids], min(BATCH, -(-len(ids) // self._threads)))
        vectors = np.empty((len(ids), self.dimensions), dtype=np.float32)
        parts = self._pool().map(lambda rows: self._run([ids[row] for row in rows]), batches)
        for rows, part in zip(batches, parts, strict=True):
            vectors[rows] = part
        return vectors

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(self._threads, thread_name_prefix="semroute-encode")
            return self._workers

    def _run(self, ids: Sequence[Sequence[int]]) -> Matrix:
        length = max(len(tokens) for tokens in ids)
        input_ids = np.zeros((len(ids), length), dtype=np.int64)
        mask = np.zeros((len(ids), length), dtype=np.int64)
        for row, tokens in enumerate(ids):
            input_ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed: dict[str, NDArray[np.int64]] = {"input_ids": input_ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(input_ids)
        output: Matrix = self._session.run(None, feed)[0]
        return output


def _batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Row numbers in groups of similar length, longest first, so that the last groups to finish are short ones."""
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True):
        if not room:
            batches.append([])
            room = max(1, min(size, BATCH_TOKENS // lengths[row]))
        batches[-1].append(row)
        room -= 1
    return batches


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # A short text is done before a second thread has woken up, unless that one spins, which burns 10 ms of CPU after
    # every run. Many texts are faster as several runs of one thread each than as one run of several threads.
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # The fused kernel takes 5 times as long as the Add and the LayerNormalization that it replaces.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # every failure of ONNX Runtime is a class of its own under Exception
        raise EncoderError(f"{path}: not a usable ONNX model ({error})") from error

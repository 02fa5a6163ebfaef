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

BATCH = 12
"""Texts of similar length in one run: more gains nothing on a CPU and wastes time on padding."""

FEW = 4
"""Up to so many texts run one after another on the session for single texts, so that no second one is made."""


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
        threads: CPU threads; as many as there are cores, at most 4, when None.

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
        self._threads = threads or min(4, available_cores())
        self._tokens = Tokens(self.tokenizer_path, max_tokens)
        self._single = _session(self.model_path, self._threads)
        self._inputs = {graph_input.name for graph_input in self._single.get_inputs()}
        self._lock = threading.Lock()
        self._bulk_workers: tuple[Any, ThreadPoolExecutor] | None = None
        width = self._single.get_outputs()[0].shape[-1]
        if width != dimensions:
            raise EncoderError(f"{self.model_path}: gives vectors of {width} dimensions, not {dimensions}")

    def __repr__(self) -> str:
        return f"OnnxEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``; ``(len(texts), dimensions)`` float32, unit rows, in the order of ``texts``."""
        # A text without a token still needs one position; id 0 is the padding or the unknown token by custom.
        ids = [tokens or [0] for tokens in self._tokens(texts)]
        vectors = np.empty((len(ids), self.dimensions), dtype=np.float32)
        if len(ids) <= FEW:
            for row, tokens in enumerate(ids):
                vectors[row] = self._run(self._single, [tokens])[0]
            return vectors

        # Long batches first, so that the last ones to finish are short.
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]), reverse=True)
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        session, workers = self._bulk()
        parts = workers.map(lambda rows: self._run(session, [ids[row] for row in rows]), batches)
        for rows, part in zip(batches, parts, strict=True):
            vectors[rows] = part
        return vectors

    def _bulk(self) -> tuple[Any, ThreadPoolExecutor]:
        # Several runs of one thread each are faster than one run of several threads: nothing is synchronised.
        with self._lock:
            if self._bulk_workers is None:
                workers = ThreadPoolExecutor(self._threads, thread_name_prefix="semroute-encode")
                self._bulk_workers = _session(self.model_path, 1), workers
            return self._bulk_workers

    def _run(self, session: Any, ids: Sequence[Sequence[int]]) -> Matrix:
        length = max(len(tokens) for tokens in ids)
        input_ids = np.zeros((len(ids), length), dtype=np.int64)
        mask = np.zeros((len(ids), length), dtype=np.int64)
        for row, tokens in enumerate(ids):
            input_ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed: dict[str, NDArray[np.int64]] = {"input_ids": input_ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(input_ids)
        output: Matrix = session.run(None, feed)[0]
        return output


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Spinning threads burn about 10 ms of CPU after every run, to save 0.1 ms of waking up.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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

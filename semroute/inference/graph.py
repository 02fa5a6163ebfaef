"""A transformer as one ONNX graph, run by ONNX Runtime on the CPU: texts in, a row of numbers for each out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute import forks
from semroute.errors import EncoderError
from semroute.inference.refusals import check_graph_file
from semroute.inference.tokens import Tokens
from semroute.types import Matrix

BATCH = 32
"""Most texts, of similar length, in one run: more gain nothing on a CPU, and cost padding."""

BATCH_TOKENS = 384
"""Most tokens in one run, unless a single text has more. From 150 on a token costs the same, and from 500 on more, as
what one layer hands to the next no longer fits into a core's cache."""

LARGE = 64 * 1024 * 1024
"""Bytes of a graph from which several threads share one run. The weights of a smaller one stay in the cache, and a
short text is done before a second thread has woken up; a larger one waits for memory, which several cores read faster.
"""

MOST_SHARING = 4
SPIN_US = 200
"""For how long a thread waits awake for the next part of a run: longer than between two parts, and little CPU after a
run. Asleep they would cost more than they gain, and ONNX Runtime's own wait burns 10 ms of CPU after each run."""


NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
"""Environment variables that keep ONNX Runtime from starting its telemetry; the name has changed between versions."""
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class TextGraph:
    """Text to rows of numbers by an ONNX graph and the tokenizer that it was made with.

    The graph takes ``input_ids`` and ``attention_mask`` (and ``token_type_ids`` where it has that input), int64
    ``(batch, tokens)``, and gives float32 ``(batch, width)``. Safe to share between threads.

    Args:
        model_path: the ``.onnx`` file.
        tokenizer_path: its ``tokenizer.json``.
        width: of a row.
        max_tokens: longer texts keep head and tail.
        threads: threads that share many texts, and those of a :data:`LARGE` graph a single one too; as many as there
            are cores when None.

    Raises:
        EncoderError: a file is missing or damaged, the graph has data in other files or a loop, or its inputs or its
            output are others.
    """

    def __init__(
        self,
        model_path: Path,
        tokenizer_path: Path,
        *,
        width: int,
        max_tokens: int,
        threads: int | None = None,
    ) -> None:
        self.width = width
        threads = threads or available_cores()
        self._model_path = model_path
        is_large = model_path.is_file() and model_path.stat().st_size >= LARGE
        sharing = min(threads, MOST_SHARING) if is_large else 1
        self._sharing = sharing
        self._threads = max(1, threads // sharing)
        # ONNX Runtime leaves the interpreter free while it reads a graph: the tokenizer is read at the same time.
        with ThreadPoolExecutor(1, thread_name_prefix="semroute-open") as beside:
            session = beside.submit(_session, model_path, sharing)
            self._tokens = Tokens(tokenizer_path, max_tokens)
            self._session = session.result()
        self._inputs = {graph_input.name for graph_input in self._session.get_inputs()}
        self._lock = forks.lock()
        self._workers: ThreadPoolExecutor | None = None
        self._runs: set[object] = set()
        self._is_parents = False
        forks.in_child(self, TextGraph._after_fork)
        self._check_signature()

    def _check_signature(self) -> None:
        others = self._inputs - _INPUTS
        if others or "input_ids" not in self._inputs:
            told = ", ".join(sorted(others or self._inputs)[:5])
            raise EncoderError(f"{self._model_path}: not a graph over token ids (its inputs: {told[:100]!a})")
        output = self._session.get_outputs()[0]
        found = output.shape[-1] if output.shape else None
        if found != self.width:
            raise EncoderError(f"{self._model_path}: gives rows of {found!a} numbers, not {self.width}")
        if output.type != "tensor(float)" or len(output.shape) != 2:
            raise EncoderError(f"{self._model_path}: gives {output.type!a} of {len(output.shape)} axes, not float rows")

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """Run the graph over texts.

        Returns:
            ``(len(texts), width)`` float32, in the order of ``texts``.

        Raises:
            EncoderError: the graph fails on a text.
        """
        # A text without a token still needs one position; id 0 is the padding or the unknown token by custom.
        ids = [tokens or [0] for tokens in self._tokens(texts)]
        if len(ids) == 1:
            return self._run(ids)
        # Small batches when there are few texts, so that all threads have work.
        batches = length_batches([len(tokens) for tokens in ids], min(BATCH, -(-len(ids) // self._threads)))
        rows = np.empty((len(ids), self.width), dtype=np.float32)
        parts = self._pool().map(lambda batch: self._run([ids[row] for row in batch]), batches)
        for batch, part in zip(batches, parts, strict=True):
            rows[batch] = part
        return rows

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Tell for each text whether the tokenizer knows none of its words."""
        return self._tokens.unknown(texts)

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(self._threads, thread_name_prefix="semroute-encode")
            return self._workers

    def _run(self, ids: Sequence[Sequence[int]]) -> Matrix:
        input_ids, mask = padded(ids)
        feed: dict[str, NDArray[np.int64]] = {"input_ids": input_ids}
        if "attention_mask" in self._inputs:
            feed["attention_mask"] = mask
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(input_ids)
        run = object()
        self._runs.add(run)
        try:
            output: Matrix = self._own_session().run(None, feed)[0]
        except Exception as error:  # every failure of ONNX Runtime is a class of its own under Exception
            raise EncoderError(f"{self._model_path}: the graph fails on a text ({_first_line(error)})") from error
        finally:
            self._runs.discard(run)
        if output.shape != (len(ids), self.width):
            raise EncoderError(f"{self._model_path}: the graph gives {output.shape} for {len(ids)} texts")
        return output

    def _own_session(self) -> Any:
        if self._is_parents:
            with self._lock:
                if self._is_parents:
                    self._session = _session(self._model_path, self._sharing)
                    self._is_parents = False
        return self._session

    def _after_fork(self) -> None:
        """Leave the parent its threads; the graph is loaded again, on first use, only where it cannot run without.

        A graph of one thread runs on its caller's, and its weights stay shared with the parent, unless another thread
        was within it at that moment and may have held one of its locks.
        """
        forks.leave_behind(self._workers)
        self._workers = None
        if self._sharing > 1 or self._runs:
            forks.leave_behind(self._session)
            self._is_parents = True
        self._runs.clear()


def padded(ids: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(n, longest)`` int64 ids, 0 where a text has ended, and the mask that is 1 where it has not."""
    if len(ids) == 1:
        alone = np.array(ids, dtype=np.int64)
        return alone, np.ones_like(alone)
    length = max(len(tokens) for tokens in ids)
    input_ids = np.zeros((len(ids), length), dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=np.int64)
    for row, tokens in enumerate(ids):
        input_ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return input_ids, mask


def length_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
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


def runtime() -> Any:
    """Import ONNX Runtime without its telemetry, which it starts on import from version 1.29 on.

    It would send what it runs to its vendor, and its thread, which no fork copies, lets a forked child hang at its end.
    The variable is not left behind. Where the application imported ONNX Runtime before, its own choice stands.

    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
    """
    unset = [name for name in NO_TELEMETRY if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    try:
        import onnxruntime
    finally:
        for name in unset:
            os.environ.pop(name, None)
    return onnxruntime


def _session(path: Path, threads: int) -> Any:
    check_graph_file(path)
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Many texts are faster as several runs of one thread each than as one run of several threads.
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    # What was looked into, whatever the file is called: ONNX Runtime takes an .ort file for another format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # The fused kernel takes 5 times as long as the Add and the LayerNormalization that it replaces.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # every failure of ONNX Runtime is a class of its own under Exception
        raise EncoderError(f"{path}: not a usable ONNX model ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    """The start of a foreign message, which may hold names of a foreign file."""
    lines = str(error).strip().splitlines()
    return ascii(lines[0][:300])[1:-1] if lines else type(error).__name__

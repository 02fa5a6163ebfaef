"""The default encoder: a sentence transformer as one int8 ONNX graph, run by ONNX Runtime on the CPU.

It needs neither torch nor sentence-transformers; :mod:`semroute.encoders.export` makes its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semroute.inference import TextGraph
from semroute.types import Matrix


class OnnxEncoder:
    """Text to unit vectors by a :class:`~semroute.inference.TextGraph` that pools and normalises too.

    Safe to share between threads.

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
        self._graph = TextGraph(
            self.model_path, self.tokenizer_path, width=dimensions, max_tokens=max_tokens, threads=threads
        )

    def __repr__(self) -> str:
        return f"OnnxEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``; ``(len(texts), dimensions)`` float32, unit rows, in the order of ``texts``."""
        return self._graph(texts)

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Tell for each text whether its tokenizer knows none of its words; such texts all get the same vector."""
        return self._graph.unknown(texts)

"""An encoder that was tuned to predict quality: from the text to every model's quality in one ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from semroute.heads.queries.head import Arrays, Quality
from semroute.heads.queries.inputs import QueryInputs
from semroute.inference import TextGraph


@dataclass(frozen=True)
class TunedHead:
    """A transformer with a line for each model on top, int8; it looks at the text alone.

    Attributes:
        graph: texts to ``(n, m)`` quality.
        model_path: its ``.onnx`` file.
        tokenizer_path: its ``tokenizer.json``.
        models: ``m``.
        max_tokens: of a text; longer ones keep head and tail.
    """

    graph: TextGraph
    model_path: Path
    tokenizer_path: Path
    models: int
    max_tokens: int

    kind: ClassVar[str] = "tuned"
    needs_vectors: ClassVar[bool] = False

    def predict(self, inputs: QueryInputs) -> Quality:
        """``(n, m)`` predicted quality."""
        return self.graph(inputs.queries).astype(np.float64)

    def arrays(self) -> Arrays:
        """What :meth:`open` must know beside the files."""
        return {"models": np.array(self.models), "max_tokens": np.array(self.max_tokens)}

    @classmethod
    def open(cls, model_path: Path, tokenizer_path: Path, arrays: Arrays) -> TunedHead:
        """The head of these files.

        Raises:
            EncoderError: a file is missing or damaged.
            KeyError, ValueError: they are not the arrays of such a head.
        """
        models, max_tokens = int(arrays["models"]), int(arrays["max_tokens"])
        graph = TextGraph(model_path, tokenizer_path, width=models, max_tokens=max_tokens)
        return cls(graph, model_path, tokenizer_path, models, max_tokens)

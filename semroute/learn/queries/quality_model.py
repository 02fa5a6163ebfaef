"""A sentence encoder with a line for each model on top: as a torch module, and as the int8 graph that serves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semroute.encoders.export import refuse_unsupported, save_tokenizer
from semroute.encoders.quantize import quantize
from semroute.encoders.sentence import load, name_of
from semroute.encoders.tracing import plain_attention, traced, unsupported
from semroute.extras import require
from semroute.heads.queries.head import Quality
from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.tuned import TunedHead
from semroute.inference import Tokens
from semroute.inference.graph import length_batches, padded

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

WHAT = "tuning an encoder"
FURTHEST = 0.05
"""Mean difference of predictions beyond which an export has failed; int8 costs about 0.005."""

PART = 32


class QualityModel:
    """From token ids to a logit of each model's quality; to be trained.

    Args:
        backbone: a sentence-transformers model, its name or folder; a plain transformer gets mean pooling. It is left
            as it is.
        prior: ``(m,)`` quality to start from, in 0..1.
        max_tokens: of a text; a backbone that takes fewer keeps its own limit.
        folder: for the tokenizer's file and the export.

    Attributes:
        module: the torch module; takes ``(n, tokens)`` ids and mask, gives ``(n, m)`` logits.
        name: the backbone's.
        width: length of the backbone's vectors.
        max_tokens: of a text.

    Raises:
        EncoderError: no such backbone, or one that cannot be exported faithfully.
        MissingExtraError: the extra "torch" is not installed.
    """

    def __init__(
        self, backbone: str | Path | SentenceTransformer, prior: NDArray[np.float64], max_tokens: int, folder: Path
    ) -> None:
        require("onnxscript", what=WHAT, extra="torch")
        sentence = load(backbone, what=WHAT)
        self.name = name_of(backbone)
        refuse_unsupported(sentence, self.name)
        self.max_tokens = min(max_tokens, sentence.max_seq_length or max_tokens)
        self.width = int(sentence.get_embedding_dimension() or 0)
        self.module = _module(sentence, self.width, prior)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(sentence, self._tokenizer_path)
        # The very tokens that will be seen in service.
        self.tokens = Tokens(self._tokenizer_path, self.max_tokens)

    @property
    def transformer(self) -> Any:
        """The transformer itself, without pooling and lines."""
        pipeline: Any = self.module.pipeline
        return pipeline[0].auto_model

    def logits(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """``(n, m)`` for the tokens of ``n`` texts."""
        import torch

        input_ids, mask = padded(ids)
        found: torch.Tensor = self.module(torch.from_numpy(input_ids), torch.from_numpy(mask))
        return found

    def predict(self, queries: Sequence[str]) -> Quality:
        """``(n, m)`` predicted quality, in fp32."""
        import torch

        self.module.eval()
        ids = [tokens or [0] for tokens in self.tokens(queries)]
        found: list[tuple[list[int], NDArray[np.float32]]] = []
        with torch.no_grad():
            for rows in length_batches([len(one) for one in ids], PART):
                found.append((rows, torch.sigmoid(self.logits([ids[row] for row in rows])).numpy()))
        whole = np.empty((len(queries), found[0][1].shape[1]))
        for rows, part in found:
            whole[rows] = part
        return whole

    def export(self, probes: Sequence[str]) -> TunedHead:
        """The int8 graph, held against this model on some queries.

        Raises:
            EncoderError: the graph says something else.
        """
        onnx = require("onnx", what=WHAT, extra="torch")
        graph = traced(_serving(self.module), output="quality", name=self.name)
        quantize(graph)
        path = self._folder / "encoder.onnx"
        onnx.save(graph, str(path))
        models = int(graph.graph.output[0].type.tensor_type.shape.dim[-1].dim_value)
        head = TunedHead.open(
            path, self._tokenizer_path, {"models": np.array(models), "max_tokens": np.array(self.max_tokens)}
        )
        gap = float(np.abs(head.predict(QueryInputs.of_texts(probes)) - self.predict(probes)).mean())
        if not gap < FURTHEST:
            raise unsupported(self.name, f"its exported predictions differ from its own (by {gap:.3f} on average)")
        return head

    @property
    def _tokenizer_path(self) -> Path:
        return self._folder / "tokenizer.json"


def _module(sentence: SentenceTransformer, width: int, prior: NDArray[np.float64]) -> Any:
    import torch

    class Lines(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts: list[Any] = [part for part in copy.deepcopy(sentence) if type(part).__name__ != "Normalize"]
            self.pipeline = torch.nn.Sequential(*parts).to("cpu").float()
            self.lines = torch.nn.Linear(width, len(prior))
            # What is predicted at first is the prior: no large step is taken away from what the backbone knows.
            torch.nn.init.zeros_(self.lines.weight)
            sure = np.clip(prior, 0.01, 0.99)
            self.lines.bias.data = torch.tensor(np.log(sure / (1.0 - sure)), dtype=torch.float32)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = self.pipeline({"input_ids": input_ids, "attention_mask": attention_mask})
            found: torch.Tensor = self.lines(features["sentence_embedding"].float())
            return found

    return Lines()


def _serving(module: Any) -> Any:
    """A copy that ends in probabilities, ready to be traced."""
    import torch

    class Probabilities(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner: Any = copy.deepcopy(module).eval()
            plain_attention(self.inner.pipeline)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.inner(input_ids, attention_mask))

    return Probabilities().eval()

"""Fine-tune a sentence encoder to predict answer quality, and export it.

The encoder gets a linear layer per model on top. It is a torch module in training and an int8 ONNX graph in service.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.encoders.export import (
    load,
    name_of,
    plain_attention,
    refuse_unsupported,
    save_tokenizer,
    traced,
    unsupported,
)
from semroute.encoders.onnx import Tokens, length_batches, padded
from semroute.encoders.quantize import quantize
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.replay import k_folds
from semroute.learn.category_head import warmed_up
from semroute.learn.estimators import Known, TrainingRows
from semroute.predictors.quality_heads import Quality, TunedHead
from semroute.predictors.query_features import QueryInputs
from semroute.types.protocols import StepProgress

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


WHAT = "tuning an encoder"
FURTHEST = 0.05
"""Mean difference of predictions from which an export has failed; int8 costs about 0.005."""

PART = 32


class QualityModel:
    """Trainable model from token ids to a quality logit of each model.

    Args:
        backbone: a sentence-transformers model, its name or folder; a plain transformer gets mean pooling. It is not
            changed.
        prior: ``(m,)`` quality to start from, in 0..1.
        max_tokens: of a text; a backbone with a lower limit keeps its own.
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
        sentence = load(backbone, purpose=WHAT)
        self.name = name_of(backbone)
        refuse_unsupported(sentence, self.name)
        self.max_tokens = min(max_tokens, sentence.max_seq_length or max_tokens)
        self.width = int(sentence.get_embedding_dimension() or 0)
        self.module = _module(sentence, self.width, prior)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(sentence, self._tokenizer_path)
        # Tokenised exactly as in service.
        self.tokens = Tokens(self._tokenizer_path, self.max_tokens)

    @property
    def transformer(self) -> Any:
        """Return the transformer alone, without pooling and linear layers."""
        pipeline: Any = self.module.pipeline
        return pipeline[0].auto_model

    def logits(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return ``(n, m)`` logits for the tokens of ``n`` texts."""
        import torch

        input_ids, mask = padded(ids)
        logits: torch.Tensor = self.module(torch.from_numpy(input_ids), torch.from_numpy(mask))
        return logits

    def predict(self, queries: Sequence[str]) -> Quality:
        """Return ``(n, m)`` predicted quality, in fp32."""
        import torch

        self.module.eval()
        ids = [tokens or [0] for tokens in self.tokens(queries)]
        predicted: list[tuple[list[int], NDArray[np.float32]]] = []
        with torch.no_grad():
            for rows in length_batches([len(token_ids) for token_ids in ids], PART):
                predicted.append((rows, torch.sigmoid(self.logits([ids[row] for row in rows])).numpy()))
        ordered = np.empty((len(queries), predicted[0][1].shape[1]))
        for rows, part in predicted:
            ordered[rows] = part
        return ordered

    def export(self, probes: Sequence[str]) -> TunedHead:
        """Export the int8 graph, compared with this model on probe queries.

        Raises:
            EncoderError: the predictions of the graph differ too much.
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
            # The first predictions are the prior: no large step is spent on it, which would damage what the backbone
            # has learnt.
            torch.nn.init.zeros_(self.lines.weight)
            clipped = np.clip(prior, 0.01, 0.99)
            self.lines.bias.data = torch.tensor(np.log(clipped / (1.0 - clipped)), dtype=torch.float32)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = self.pipeline({"input_ids": input_ids, "attention_mask": attention_mask})
            logits: torch.Tensor = self.lines(features["sentence_embedding"].float())
            return logits

    return Lines()


def _serving(module: Any) -> Any:
    """Return a copy that ends in probabilities, ready to be traced."""
    import torch

    class Probabilities(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner: Any = copy.deepcopy(module).eval()
            plain_attention(self.inner.pipeline)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.inner(input_ids, attention_mask))

    return Probabilities().eval()


# Fine-tuning of a whole encoder to predict quality (extra "torch").
#
# Devlin et al., "BERT", NAACL 2019: all weights are tuned with a linear layer on top of the pooled output for a few
# epochs. The loss is the cross entropy of each model's quality, which may lie between 0 and 1, over the known models.

PROBES = 64
"""Queries on which the exported graph is compared with the model."""

WINDOW = 16
"""Batches that are sorted by length together: little padding, yet different batches in every epoch."""


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Hyperparameters of fine-tuning.

    Attributes:
        epochs: passes over the rows.
        batch: rows of a step.
        rate: peak learning rate of the encoder at a width of 384, after a warm-up over a tenth of the steps, falling
            linearly to 0. A wider encoder takes less, in proportion (Yang et al., "Tensor Programs V", 2022).
        line_rate: learning rate of the linear layers on top.
        max_tokens: longer queries keep head and tail, here and in service.
        seed: of batches and dropout.
    """

    epochs: int = 2
    batch: int = 32
    rate: float = 1e-4
    line_rate: float = 1e-3
    max_tokens: int = 128
    seed: int = 0


def fine_tune(
    backbone: str | Path | SentenceTransformer,
    queries: Sequence[str],
    quality: Known,
    folder: Path,
    plan: FineTuning | None = None,
    progress: StepProgress = lambda done, total: None,
) -> TunedHead:
    """Fine-tune an int8 copy of ``backbone`` as a head.

    Args:
        backbone: a sentence-transformers model, its name or folder.
        queries: ``n`` texts to tune on.
        quality: ``(n, m)``, NaN where it is not known.
        folder: for the files of the head, which must stay as long as it is used.
        plan: the settings.
        progress: called after each step with the steps done and their total.

    Raises:
        EncoderError: no such backbone, or one that cannot be exported faithfully.
        MissingExtraError: the extra "torch" is not installed.
    """
    torch = require("torch", what=WHAT, extra="torch")
    plan = plan or FineTuning()
    known = np.isfinite(quality)
    counts = known.sum(axis=0)
    # A model without known quality here starts, and stays, in the middle.
    prior = np.where(counts > 0, np.where(known, quality, 0.0).sum(axis=0) / np.maximum(counts, 1), 0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model = QualityModel(backbone, prior, plan.max_tokens, folder)
        _train(model, queries, quality, plan, progress)
    return model.export(queries[:PROBES])


def _train(
    model: QualityModel, queries: Sequence[str], quality: Known, plan: FineTuning, progress: StepProgress
) -> None:
    import torch

    # Word embeddings are a fifth to half of the weights and hardly move in a few passes; frozen, each step is faster.
    for weight in model.transformer.get_input_embeddings().parameters():
        weight.requires_grad = False
    ids = [tokens or [0] for tokens in model.tokens(queries)]
    steps = plan.epochs * -(-len(ids) // plan.batch)
    body = [weight for weight in model.module.pipeline.parameters() if weight.requires_grad]
    lines = list(model.module.lines.parameters())
    groups: list[dict[str, Any]] = [
        {"params": body, "lr": plan.rate * min(1.0, 384 / model.width)}, {"params": lines, "lr": plan.line_rate}
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_up(step, steps))
    model.module.train()
    for done, rows in enumerate(_batches([len(token_ids) for token_ids in ids], plan), start=1):
        with _half():
            logits = model.logits([ids[row] for row in rows])
        loss = _loss(logits.float(), quality[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*body, *lines], 1.0)
        optimizer.step()
        schedule.step()
        progress(done, steps)


def _loss(logits: Any, quality: Known) -> Any:
    import torch

    is_known = torch.from_numpy(np.isfinite(quality))
    truth = torch.from_numpy(np.nan_to_num(quality, nan=0.0).astype(np.float32))
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (losses * is_known).sum() / is_known.sum().clamp(min=1)


def _batches(lengths: Sequence[int], plan: FineTuning) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of each step.

    Every row comes once an epoch, and rows of similar length are together.
    """
    random = np.random.default_rng(plan.seed)
    length = np.asarray(lengths)
    for _ in range(plan.epochs):
        order = random.permutation(len(length))
        batches = []
        for start in range(0, len(order), WINDOW * plan.batch):
            window = order[start : start + WINDOW * plan.batch]
            window = window[np.argsort(length[window], kind="stable")]
            batches += [window[first : first + plan.batch] for first in range(0, len(window), plan.batch)]
        for position in random.permutation(len(batches)):
            yield batches[position]


def _half() -> AbstractContextManager[Any]:
    """Use bfloat16 matrix products where the processor supports them.

    They are twice as fast; weights stay float32.
    """
    import torch

    # Older releases of torch have no such query.
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if features.get("avx512_bf16") or features.get("amx_bf16"):
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()


# An encoder tuned on a part of the rows, so that the rest can validate it.
#
# Cross-validation, as for the other heads, would tune it once more for each fold; a fifth of the rows is enough to
# weigh it against them, and the head that was validated is the one that serves.

PARTS = 5
"""Number of folds, one of which is left out."""


@dataclass(frozen=True, slots=True)
class TunedPart:
    """A tuned encoder with its predictions for the rows left out of tuning.

    Attributes:
        head: for serving.
        judged: ``(k,)`` numbers of the rows that were left out.
        predicted: ``(k, m)`` predictions of the head for them.
    """

    head: TunedHead
    judged: NDArray[np.int64]
    predicted: Quality


def tune_part(
    backbone: str | Path | SentenceTransformer,
    rows: TrainingRows,
    folder: Path,
    plan: FineTuning | None = None,
    progress: StepProgress = lambda done, total: None,
) -> TunedPart:
    """Tune on four fifths of the rows, without duplicates of left-out rows.

    Args:
        backbone: a sentence-transformers model, its name or folder.
        rows: all of them.
        folder: for the files of the head, which must stay as long as it is used.
        plan: the settings.
        progress: called after each step with the steps done and their total.

    Raises:
        EncoderError: no such backbone, or one that cannot be exported faithfully.
        InputError: too few distinct queries.
        MissingExtraError: the extra "torch" is not installed.
    """
    plan = plan or FineTuning()
    part = k_folds(duplicates(rows.queries, rows.inputs.vectors).group, PARTS, seed=plan.seed)[0]
    train_queries = [rows.queries[row] for row in part.train.tolist()]
    head = fine_tune(backbone, train_queries, rows.quality[part.train], folder, plan, progress)
    return TunedPart(head, part.test, head.predict(rows.inputs.take(part.test)))

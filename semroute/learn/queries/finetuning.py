"""Tuning of a whole encoder to predict quality (extra "torch").

Devlin et al., "BERT", NAACL 2019: every weight follows a line on top of the pooled output for a few passes. The loss is
the cross entropy of each model's quality, which may lie between 0 and 1, over the models that are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.heads.queries.tuned import TunedHead
from semroute.learn.queries.estimator import Known
from semroute.learn.queries.quality_model import WHAT, QualityModel
from semroute.learn.schedule import warmed_up
from semroute.types.progress import StepProgress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


PROBES = 64
"""Queries on which the exported graph is held against the model."""

WINDOW = 16
"""Batches that are sorted by length together: little padding, and still other batches in every pass."""


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How an encoder is tuned.

    Attributes:
        epochs: passes over the rows.
        batch: rows of a step.
        rate: peak learning rate of the encoder at a width of 384, after a warm-up over a tenth of the steps, falling
            linearly to 0. A wider encoder takes less, in proportion (Yang et al., "Tensor Programs V", 2022).
        line_rate: that of the lines on top.
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
    """A head that is a tuned copy of ``backbone``, int8.

    Args:
        backbone: a sentence-transformers model, its name or folder.
        queries: ``n`` texts to tune on.
        quality: ``(n, m)``, NaN where it is not known.
        folder: for the files of the head, which must stay there as long as it is used.
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
    # A model of which nothing is known here starts, and stays, in the middle.
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
    for done, rows in enumerate(_batches([len(one) for one in ids], plan), start=1):
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

    known = torch.from_numpy(np.isfinite(quality))
    truth = torch.from_numpy(np.nan_to_num(quality, nan=0.0).astype(np.float32))
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def _batches(lengths: Sequence[int], plan: FineTuning) -> Iterator[NDArray[np.int64]]:
    """Row numbers of each step: every row once a pass, rows of similar length together."""
    random = np.random.default_rng(plan.seed)
    length = np.asarray(lengths)
    for _ in range(plan.epochs):
        order = random.permutation(len(length))
        batches = []
        for start in range(0, len(order), WINDOW * plan.batch):
            window = order[start : start + WINDOW * plan.batch]
            window = window[np.argsort(length[window], kind="stable")]
            batches += [window[at : at + plan.batch] for at in range(0, len(window), plan.batch)]
        for place in random.permutation(len(batches)):
            yield batches[place]


def _half() -> AbstractContextManager[Any]:
    """bfloat16 in matrix products where the processor computes with it, twice as fast; weights stay float32."""
    import torch

    # Older releases of torch do not tell.
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if features.get("avx512_bf16") or features.get("amx_bf16"):
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()

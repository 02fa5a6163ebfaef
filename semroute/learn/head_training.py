"""Training of the logistic head with a hidden layer (extra "build")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.heads import MlpHead
from semroute.types import Matrix

if TYPE_CHECKING:
    import torch

SCALE = 8.0
"""Entries of a unit vector of some hundred dimensions are near 0.05; the layers are initialised for inputs near 1."""


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """How the head is trained.

    Label smoothing (Szegedy et al., "Rethinking the Inception Architecture", 2016) keeps the probabilities of queries
    far from every example low, which is what tells out-of-scope queries apart; noise on the vectors stands in for the
    paraphrases that a few examples do not hold.

    Attributes:
        hidden: hidden units.
        dropout: share of hidden units dropped in training.
        smoothing: mass of the label spread over all categories.
        noise: length of the random vector that is added to each unit vector.
        epochs: passes over the examples, as far as ``fewest_steps`` and ``most_steps`` allow.
        seed: of initialisation, order, dropout and noise.
    """

    hidden: int = 512
    dropout: float = 0.3
    smoothing: float = 0.15
    noise: float = 0.5
    epochs: int = 50
    fewest_steps: int = 100
    most_steps: int = 4000
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0

    def steps_for(self, examples: int) -> int:
        """The number of optimizer steps for so many examples."""
        return int(np.clip(self.epochs * examples / self.batch, self.fewest_steps, self.most_steps))


def train_heads(
    data: Sequence[tuple[Matrix, NDArray[np.int64]]],
    categories: int,
    plan: HeadPlan,
    done: Callable[[int], None] = lambda count: None,
) -> list[MlpHead]:
    """:func:`train_head` for several sets of vectors and labels, side by side, each on one thread.

    The steps are small: a second thread for one of them costs more than it gains, and on a busy machine makes it many
    times slower. torch's number of threads is put back at the end.

    Args:
        data: vectors and labels of each head.
        categories: number of categories.
        plan: the settings, the same for all.
        done: called with the number of heads that are finished.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    torch = require("torch", what="training the head", extra="build")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    heads = []
    try:
        with ThreadPoolExecutor(min(threads, len(data)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for head in pool.map(lambda part: train_head(part[0], part[1], categories, plan), data):
                heads.append(head)
                done(len(heads))
    finally:
        torch.set_num_threads(threads)
    return heads


def train_head(vectors: Matrix, labels: NDArray[np.int64], categories: int, plan: HeadPlan) -> MlpHead:
    """Fit an :class:`~semroute.heads.MlpHead`.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers below ``categories``.
        categories: number of categories.
        plan: the settings.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    torch = require("torch", what="training the head", extra="build")
    random = torch.Generator().manual_seed(plan.seed)
    layers = [
        _initial(torch, vectors.shape[1], plan.hidden, random),
        _initial(torch, vectors.shape[1], categories, random),
        _initial(torch, plan.hidden, categories, random),
    ]
    _descend(torch, layers, torch.from_numpy(vectors) * SCALE, torch.from_numpy(labels), plan, random)
    (hidden, hidden_bias), (direct, direct_bias), (output, output_bias) = [
        [tensor.detach().numpy() for tensor in layer] for layer in layers
    ]
    return MlpHead(
        hidden=hidden * np.float32(SCALE),
        hidden_bias=hidden_bias,
        direct=direct * np.float32(SCALE),
        output=output,
        output_bias=output_bias + direct_bias,
    )


def _initial(torch: Any, inputs: int, outputs: int, random: torch.Generator) -> list[torch.Tensor]:
    """Weights ``(inputs, outputs)`` and bias, uniform within ``1 / sqrt(inputs)`` as ``torch.nn.Linear`` draws them."""
    bound = inputs**-0.5
    return [
        ((torch.rand(shape, generator=random) * 2 - 1) * bound).requires_grad_()
        for shape in ((inputs, outputs), (outputs,))
    ]


def _descend(
    torch: Any,
    layers: list[list[torch.Tensor]],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    plan: HeadPlan,
    random: torch.Generator,
) -> None:
    (hidden, hidden_bias), (direct, direct_bias), (output, output_bias) = layers
    weights = [tensor for layer in layers for tensor in layer]
    steps, batch = plan.steps_for(len(inputs)), min(plan.batch, len(inputs))
    optimizer = torch.optim.AdamW(weights, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=steps)
    noise = SCALE * plan.noise / inputs.shape[1] ** 0.5
    order, place = torch.randperm(len(inputs), generator=random), 0
    for _ in range(steps):
        if place + batch > len(order):
            order, place = torch.randperm(len(inputs), generator=random), 0
        rows = order[place : place + batch]
        place += batch
        noisy = inputs[rows] + noise * torch.randn(batch, inputs.shape[1], generator=random)
        noisy = torch.nn.functional.normalize(noisy, dim=1) * SCALE
        kept = torch.rand(batch, plan.hidden, generator=random) >= plan.dropout
        active = torch.relu(torch.addmm(hidden_bias, noisy, hidden)) * kept / (1 - plan.dropout)
        logits = torch.addmm(output_bias, active, output) + torch.addmm(direct_bias, noisy, direct)
        loss = torch.nn.functional.cross_entropy(logits, labels[rows], label_smoothing=plan.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

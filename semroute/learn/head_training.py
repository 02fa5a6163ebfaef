"""Training of the logistic head with a hidden layer (extra "build")."""

from __future__ import annotations

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
    smoothing: float = 0.1
    noise: float = 0.5
    epochs: int = 30
    fewest_steps: int = 500
    most_steps: int = 4000
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0

    def steps_for(self, examples: int) -> int:
        """The number of optimizer steps for so many examples."""
        return int(np.clip(self.epochs * examples / self.batch, self.fewest_steps, self.most_steps))


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        layers = torch.nn.ModuleDict(
            {
                "hidden": torch.nn.Linear(vectors.shape[1], plan.hidden),
                "direct": torch.nn.Linear(vectors.shape[1], categories, bias=False),
                "output": torch.nn.Linear(plan.hidden, categories),
            }
        )
        _descend(torch, layers, torch.from_numpy(vectors), torch.from_numpy(labels), plan)
    return _frozen(layers)


def _descend(torch: Any, layers: Any, vectors: torch.Tensor, labels: torch.Tensor, plan: HeadPlan) -> None:
    functional = torch.nn.functional
    steps = plan.steps_for(len(vectors))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=steps)
    noise = plan.noise / vectors.shape[1] ** 0.5
    order = torch.randperm(len(vectors))
    place = 0
    for _ in range(steps):
        if place + plan.batch > len(order):
            order, place = torch.randperm(len(vectors)), 0
        rows = order[place : place + plan.batch]
        place += plan.batch
        clean = vectors[rows]
        inputs = functional.normalize(clean + noise * torch.randn_like(clean), dim=1) * SCALE
        active = functional.dropout(torch.relu(layers["hidden"](inputs)), plan.dropout)
        logits = layers["output"](active) + layers["direct"](inputs)
        loss = functional.cross_entropy(logits, labels[rows], label_smoothing=plan.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _frozen(layers: Any) -> MlpHead:
    def array(tensor: torch.Tensor, scale: float = 1.0) -> Matrix:
        return np.ascontiguousarray(tensor.detach().numpy().T * np.float32(scale), dtype=np.float32)

    return MlpHead(
        hidden=array(layers["hidden"].weight, SCALE),
        hidden_bias=array(layers["hidden"].bias),
        direct=array(layers["direct"].weight, SCALE),
        output=array(layers["output"].weight),
        output_bias=array(layers["output"].bias),
    )

"""Contrastive tuning of an encoder on labelled examples (extra "torch").

Supervised contrastive loss: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2. A broad
category is not one point on the sphere, so its examples are pulled together only within clusters of the untuned
vectors, and pushed away only from the other categories; clusters of one category are not pushed apart.

The tuned weights are then averaged with the old ones: tuning alone wears off the encoder's general knowledge, which
separates out-of-scope queries. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.learn.category_head import warmed_up
from semroute.learn.fit import spherical_kmeans
from semroute.types import Matrix
from semroute.types.protocols import StepProgress

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


PART = 24
"""Texts per forward pass of the encoder within a step."""


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """Hyperparameters of contrastive tuning.

    Attributes:
        steps: optimizer steps; None takes three passes over the examples, within 150 and 420.
        groups: clusters in a batch; each gives two examples.
        learning_rate: peak, after a warm-up over a tenth of the steps, falling linearly to 0.
        temperature: of the contrastive loss.
        share: of the tuned weights in the average with the old ones, 0 to 1.
        cluster_size: examples per cluster that a category is divided into.
        max_tokens: longer examples are cut for tuning, since time grows with length.
        seed: of clusters, batches and dropout.
    """

    steps: int | None = None
    groups: int = 48
    learning_rate: float = 1e-4
    temperature: float = 0.06
    share: float = 0.5
    cluster_size: int = 100
    max_tokens: int = 64
    seed: int = 0

    def steps_for(self, examples: int) -> int:
        """Return the number of steps for a number of examples."""
        return self.steps if self.steps is not None else int(np.clip(3 * examples / (2 * self.groups), 150, 420))


def tune_encoder(
    model: SentenceTransformer,
    texts: Sequence[str],
    labels: NDArray[np.int64],
    vectors: Matrix,
    plan: TuningPlan,
    progress: StepProgress = lambda done, total: None,
) -> SentenceTransformer:
    """Return a tuned copy of ``model``.

    Args:
        model: the encoder; it is left as it is.
        texts: examples.
        labels: ``(n,)`` category number of each.
        vectors: ``(n, d)`` vectors of the untuned encoder, from which the clusters are made.
        plan: the settings.
        progress: called after each step with the steps done and their total.

    Raises:
        MissingExtraError: the extra "torch" is not installed.
    """
    torch = require("torch", what="tuning the encoder", extra="torch")
    groups = fine_groups(vectors, labels, plan.cluster_size, plan.seed)
    group_category = np.array([labels[members[0]] for members in groups])
    tuned = copy.deepcopy(model).to("cpu").float()
    # Word embeddings are half of the weights and hardly move in a few hundred steps; frozen, each step is faster.
    transformer: Any = tuned[0]
    for parameter in transformer.auto_model.get_input_embeddings().parameters():
        parameter.requires_grad = False
    steps = plan.steps_for(len(texts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        random = np.random.default_rng(plan.seed)
        weights = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=plan.learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_up(step, steps))
        tuned.train()
        for step in range(steps):
            chosen = random.choice(len(groups), size=min(plan.groups, len(groups)), replace=False)
            rows = np.concatenate([_pair(groups[group], random) for group in chosen])
            cluster = np.repeat(chosen, 2)
            embedded = _embed(tuned, [texts[row] for row in rows], plan.max_tokens)
            loss = contrastive_loss(embedded, cluster, group_category[cluster], plan.temperature)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            progress(step + 1, steps)
    _average(tuned, model, plan.share)
    return tuned.eval()


def _average(tuned: SentenceTransformer, model: SentenceTransformer, share: float) -> None:
    """Move every weight of ``tuned`` back towards ``model``'s.

    ``share`` 1 leaves it as it is.
    """
    import torch

    with torch.no_grad():
        for weight, original in zip(tuned.parameters(), model.parameters(), strict=True):
            weight.copy_(torch.lerp(original.to(weight), weight, share))


def fine_groups(vectors: Matrix, labels: NDArray[np.int64], cluster_size: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each cluster within a category.

    A category has one cluster per ``cluster_size`` examples.
    """
    groups: list[NDArray[np.int64]] = []
    for category in range(int(labels.max()) + 1):
        rows = np.flatnonzero(labels == category)
        count = max(1, round(len(rows) / cluster_size))
        centres = spherical_kmeans(vectors[rows], count, seed=seed)
        nearest = (vectors[rows] @ centres.T).argmax(axis=1)
        groups += [rows[nearest == cluster] for cluster in range(len(centres)) if np.any(nearest == cluster)]
    return groups


def contrastive_loss(
    embedded: torch.Tensor, cluster: NDArray[np.int64], category: NDArray[np.int64], temperature: float
) -> torch.Tensor:
    """Return the supervised contrastive loss, a mean over anchors.

    It is ``-log`` of the share of an anchor's positives among positives and negatives.

    Args:
        embedded: ``(n, d)`` unit rows.
        cluster: ``(n,)`` cluster numbers: the same number is a positive.
        category: ``(n,)`` category numbers: another number is a negative; the rest is left out.
        temperature: of the similarities.
    """
    import torch

    fine_of, category_of = torch.from_numpy(cluster), torch.from_numpy(category)
    itself = torch.eye(len(fine_of), dtype=torch.bool)
    positive = (fine_of[:, None] == fine_of[None, :]) & ~itself
    counted = positive | (category_of[:, None] != category_of[None, :])
    similarity = (embedded @ embedded.T) / temperature
    total = torch.logsumexp(similarity.masked_fill(~counted, float("-inf")), dim=1)
    log_share = (similarity - total[:, None]).masked_fill(~positive, 0.0)
    return -(log_share.sum(dim=1) / positive.sum(dim=1).clamp(min=1)).mean()


def _pair(members: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    # A lone example is paired with itself: dropout makes the two vectors differ (SimCSE, Gao et al. 2021).
    return random.choice(members, size=2, replace=len(members) < 2)


def _embed(model: SentenceTransformer, texts: list[str], max_tokens: int) -> torch.Tensor:
    """Return unit vectors in the order of ``texts``.

    They are computed in batches of similar length, as padding would be half of the work.
    """
    import torch

    tokenize: Any = model.tokenizer
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = []
    for start in range(0, len(order), PART):
        chosen = [texts[row] for row in order[start : start + PART]]
        features = dict(tokenize(chosen, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"))
        parts.append(model(features)["sentence_embedding"])
    inverse_order = torch.from_numpy(np.argsort(order))
    return torch.nn.functional.normalize(torch.cat(parts)[inverse_order], dim=1)

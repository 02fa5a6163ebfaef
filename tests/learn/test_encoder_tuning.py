from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from semroute.learn.encoder import TuningPlan, contrastive_loss, fine_groups, tune_encoder
from semroute.types import Matrix

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.torch

TEXTS = [
    "boil an egg", "bake some bread", "fry an onion", "season the soup",
    "fix a loop", "write a test", "merge a branch", "parse a file",
]  # fmt: skip
LABELS = np.repeat([0, 1], 4)


def unit(rows: list[list[float]]) -> torch.Tensor:
    import torch

    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def embed(model: SentenceTransformer, texts: list[str] = TEXTS) -> Matrix:
    return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False))


def test_the_loss_matches_a_hand_computation() -> None:
    # Two pairs at right angles, temperature 1: a positive has similarity 1 and both negatives 0.
    rows = unit([[1, 0], [1, 0], [0, 1], [0, 1]])
    fine = np.array([0, 0, 1, 1])
    expected = -np.log(np.e / (np.e + 2))
    assert float(contrastive_loss(rows, fine, fine, 1.0)) == pytest.approx(expected)
    hot = -np.log(np.exp(2) / (np.exp(2) + 2))
    assert float(contrastive_loss(rows, fine, fine, 0.5)) == pytest.approx(hot)


def test_another_cluster_of_the_same_category_is_left_alone() -> None:
    rows = unit([[1, 0], [1, 0], [0, 1], [0, 1]])
    fine, category = np.array([0, 0, 1, 1]), np.zeros(4, np.int64)
    assert float(contrastive_loss(rows, fine, category, 1.0)) == pytest.approx(0.0)


def test_a_sibling_cluster_neither_pulls_nor_pushes() -> None:
    import torch

    rows = unit([[1, 0], [1, 0.1], [0.9, 0.5], [0.9, 0.4], [0, 1], [0.1, 1]]).requires_grad_()
    fine, category = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
    # Against the whole batch, the loss of the first pair depends on itself and on the other category alone.
    similarity = (rows @ rows.T).detach().numpy() / 0.5
    shares = []
    for anchor, positive in ((0, 1), (1, 0), (2, 3), (3, 2)):
        against = [similarity[anchor, other] for other in (positive, 4, 5)]
        shares.append(np.log(np.exp(similarity[anchor, positive]) / np.exp(against).sum()))
    for anchor, positive in ((4, 5), (5, 4)):
        against = [similarity[anchor, other] for other in (positive, 0, 1, 2, 3)]
        shares.append(np.log(np.exp(similarity[anchor, positive]) / np.exp(against).sum()))
    loss = contrastive_loss(rows, fine, category, 0.5)
    assert loss.item() == pytest.approx(-np.mean(shares), rel=1e-5)
    loss.backward()
    assert rows.grad is None or torch.isfinite(rows.grad).all()


def test_clusters_divide_a_category_and_never_cross_it() -> None:
    axes = np.eye(6, dtype=np.float32)
    vectors = np.concatenate([np.repeat(axes[[0, 1]], 4, axis=0), np.repeat(axes[[2]], 3, axis=0)])
    labels = np.repeat([0, 1], [8, 3])
    groups = fine_groups(vectors, labels, cluster_size=4, seed=0)
    assert sorted(sorted(group.tolist()) for group in groups) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_every_example_is_in_one_cluster_and_a_lone_one_in_its_own() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(41, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.repeat([0, 1, 2], [30, 10, 1])
    groups = fine_groups(vectors, labels, cluster_size=10, seed=0)
    assert sorted(np.concatenate(groups)) == list(range(41))
    assert all(len(set(labels[group])) == 1 for group in groups)
    assert [40] in [group.tolist() for group in groups]


def test_steps_follow_the_plan_or_the_number_of_examples() -> None:
    assert TuningPlan(steps=7).steps_for(10**6) == 7
    found = [TuningPlan().steps_for(examples) for examples in (1, 10_000, 10**7)]
    assert found == sorted(found)
    assert found[0] > 0


@pytest.mark.slow
def test_tuning_is_seeded_and_leaves_the_model_as_it_is(sentence_transformer: SentenceTransformer) -> None:
    import torch

    weights = {name: value.clone() for name, value in sentence_transformer.state_dict().items()}
    wanted = {name: parameter.requires_grad for name, parameter in sentence_transformer.named_parameters()}
    before = embed(sentence_transformer)
    training = sentence_transformer.training
    plan = TuningPlan(steps=2, groups=2, cluster_size=4, max_tokens=16)
    seen: list[tuple[int, int]] = []
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again = (
        embed(tune_encoder(sentence_transformer, TEXTS, LABELS, before, plan, lambda *step: seen.append(step)))
        for _ in range(2)
    )
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first, again)
    assert seen == [(1, 2), (2, 2)] * 2
    assert not np.allclose(first, before, atol=1e-4)
    assert sentence_transformer.training is training
    assert {name: parameter.requires_grad for name, parameter in sentence_transformer.named_parameters()} == wanted
    assert all(torch.equal(value, weights[name]) for name, value in sentence_transformer.state_dict().items())
    np.testing.assert_array_equal(embed(sentence_transformer), before)


@pytest.mark.slow
def test_tuning_cuts_long_texts_only_while_it_tunes(sentence_transformer: SentenceTransformer) -> None:
    plan = TuningPlan(steps=1, groups=2, cluster_size=4, max_tokens=8)
    tuned = tune_encoder(sentence_transformer, TEXTS, LABELS, embed(sentence_transformer), plan)
    assert tuned.max_seq_length == sentence_transformer.max_seq_length
    head, whole = embed(tuned, ["word " * 8, "word " * 8 + "and something else at the end of it"])
    assert float(head @ whole) < 0.999


@pytest.mark.slow
def test_tuning_lowers_the_loss(sentence_transformer: SentenceTransformer) -> None:
    import torch

    def loss(rows: Matrix) -> float:
        return float(contrastive_loss(torch.from_numpy(rows), LABELS, LABELS, 0.1))

    before = embed(sentence_transformer)
    plan = TuningPlan(steps=15, groups=2, cluster_size=4, max_tokens=16, learning_rate=1e-4)
    tuned = tune_encoder(sentence_transformer, TEXTS, LABELS, before, plan)
    assert not tuned.training
    assert loss(embed(tuned)) < 0.8 * loss(before)


@pytest.mark.slow
def test_a_category_with_a_single_example_is_tuned_on(sentence_transformer: SentenceTransformer) -> None:
    texts, labels = [*TEXTS[:3], "a contract"], np.array([0, 0, 0, 1])
    plan = TuningPlan(steps=1, groups=4, max_tokens=16)
    tuned = tune_encoder(sentence_transformer, texts, labels, embed(sentence_transformer, texts), plan)
    assert np.isfinite(embed(tuned, texts)).all()


@pytest.mark.slow
def test_the_share_of_the_tuned_weights_is_that_of_the_plan(sentence_transformer: SentenceTransformer) -> None:
    texts = ["a red car", "a blue car", "boil an egg", "fry an egg"]
    labels = np.array([0, 0, 1, 1])
    vectors = sentence_transformer.encode(texts, normalize_embeddings=True)

    def weights(share: float) -> list[NDArray[np.float32]]:
        plan = TuningPlan(steps=2, groups=2, cluster_size=4, max_tokens=8, share=share)
        tuned = tune_encoder(sentence_transformer, texts, labels, vectors, plan)
        return [weight.detach().numpy() for weight in tuned.parameters()]

    old = [weight.detach().numpy() for weight in sentence_transformer.parameters()]
    none, half, whole = weights(0.0), weights(0.5), weights(1.0)
    assert all(np.array_equal(a, b) for a, b in zip(none, old, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(whole, old, strict=True))
    for a, b, middle in zip(old, whole, half, strict=True):
        np.testing.assert_allclose(middle, (a + b) / 2, atol=1e-6)

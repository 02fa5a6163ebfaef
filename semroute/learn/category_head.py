"""Train the classification head of categories, in NumPy (extra "build")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import cos, pi

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.encoders.onnx import available_cores
from semroute.predictors.category_head import MlpHead
from semroute.types import Matrix


def warmed_up(step: int, steps: int) -> float:
    """Return the learning-rate factor at ``step``, linear warm-up and decay.

    Steps count from 0. The factor rises over a tenth of ``steps``, then falls to 0.
    """
    warm_up = max(1, steps // 10)
    return (step + 1) / warm_up if step < warm_up else max(0.0, (steps - step) / max(1, steps - warm_up))


# A head is a logistic regression with a hidden layer. It has a few hundred thousand weights: its gradient is a handful
# of matrix products, written out below.

SCALE = 8.0
"""Entries of a unit vector of some hundred dimensions are near 0.05; the layers are initialised for inputs near 1."""

NOISE_DRAWN = 1 << 19
"""Normal numbers drawn in advance for a head's noise. Each step reads a run of them from its own offset: drawing them
anew would take a quarter of the training."""

CONTINUED_EPOCHS = 2
MIN_CONTINUED_STEPS = 20
"""Passes over all examples, and minimum optimizer steps, when the training of a head is continued."""

BLOCK = 1 << 15
"""Weights per block of an Adam update. Its dozen passes over all 200,000 weights would go to memory; a block stays in a
core's own cache."""


LOGISTIC_STRENGTH = 30.0
"""Weight of the data against the regularisation of a logistic head. On the validation rows of the 150 intents of
CLINC150, with 3 examples and the name of each, a third of it is too flat to count beside cosines, and three times as
much gains .3 points of accuracy but rejects other queries worse (.962 against .966 of AUROC)."""

LOGISTIC_STEPS = 60


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """Hyperparameters of the head's training.

    Label smoothing (Szegedy et al., "Rethinking the Inception Architecture", 2016) keeps the probabilities of queries
    far from every example low, which separates out-of-scope queries; noise on the vectors substitutes for the
    paraphrases that are missing among few examples.

    Attributes:
        hidden: hidden units; 0 trains a logistic regression, to which no other setting applies.
        dropout: share of hidden units dropped in training.
        smoothing: mass of the label spread over all categories.
        noise: length of the random vector that is added to each unit vector.
        epochs: passes over the examples, within ``fewest_steps`` and ``most_steps``.
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
        """Return the number of optimizer steps for a number of examples."""
        return int(np.clip(self.epochs * examples / self.batch, self.fewest_steps, self.most_steps))


def train_heads(
    data: Sequence[tuple[Matrix, NDArray[np.int64]]],
    categories: int,
    plan: HeadPlan,
    done: Callable[[int], None] = lambda count: None,
) -> list[MlpHead]:
    """Run :func:`train_head` on several data sets, each on one thread.

    The steps are small: a second thread for one of them costs more than it gains, and on a busy machine makes it many
    times slower.

    Args:
        data: vectors and labels of each head.
        categories: number of categories.
        plan: the settings, the same for all.
        done: called with the number of heads that are finished.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    heads = []
    with one_blas_thread(), ThreadPoolExecutor(min(available_cores(), len(data))) as pool:
        for head in pool.map(lambda part: train_head(part[0], part[1], categories, plan), data):
            heads.append(head)
            done(len(heads))
    return heads


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to the calling thread, in the whole process.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    threadpoolctl = require("threadpoolctl", what="fitting an index", extra="build")
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


def train_head(vectors: Matrix, labels: NDArray[np.int64], categories: int, plan: HeadPlan) -> MlpHead:
    """Fit an :class:`~semroute.predictors.MlpHead`.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers below ``categories``.
        categories: number of categories.
        plan: the settings.
    """
    if plan.hidden == 0:
        return train_logistic(vectors, labels, categories)
    random = np.random.default_rng(plan.seed)
    network = _Network(vectors.shape[1], categories, plan.hidden, random)
    inputs, steps, batch = vectors * np.float32(SCALE), plan.steps_for(len(vectors)), min(plan.batch, len(vectors))
    noise = _Noise(plan.noise, batch, vectors.shape[1], random)
    order, position = random.permutation(len(inputs)), 0
    for step in range(steps):
        if position + batch > len(order):
            order, position = random.permutation(len(inputs)), 0
        rows = order[position : position + batch]
        position += batch
        network.descend(noise.added(inputs[rows]), labels[rows], plan, random)
        network.update(*one_cycle(step, steps, plan.learning_rate), plan.weight_decay)
    return network.head()


def continue_head(
    head: MlpHead, vectors: Matrix, labels: NDArray[np.int64], changed: NDArray[np.int64], plan: HeadPlan
) -> MlpHead:
    """Continue the training of a head after a few examples have changed.

    It passes over all examples :data:`CONTINUED_EPOCHS` times at a low rate, so that it forgets none of them, and meets
    each new one as often as a training from the start would.

    Args:
        head: trained on most of the examples.
        vectors: ``(n, d)`` unit rows, all that there are now.
        labels: ``(n,)`` category numbers.
        changed: rows that the head was not trained on.
        plan: the settings that it was trained with.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    plan = replace(plan, hidden=len(head.hidden_bias))
    if plan.hidden == 0:  # trained in a moment, and always to the same result
        with one_blas_thread():
            return train_logistic(vectors, labels, head.direct.shape[1])
    random = np.random.default_rng(plan.seed)
    batch = min(plan.batch, len(vectors))
    steps = max(MIN_CONTINUED_STEPS, round(CONTINUED_EPOCHS * len(vectors) / batch))
    repeats = min(-(-len(changed) * plan.epochs // steps), batch // 4) if len(changed) else 0
    inputs = vectors * np.float32(SCALE)
    with one_blas_thread():
        width, categories = head.direct.shape
        network = _Network(width, categories, plan.hidden, random, head)
        noise = _Noise(plan.noise, batch, vectors.shape[1], random)
        order = np.concatenate([random.permutation(len(inputs)) for _ in range(-(-steps * batch // len(inputs)))])
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            rows[:repeats] = random.choice(changed, repeats) if repeats else rows[:repeats]
            network.descend(noise.added(inputs[rows]), labels[rows], plan, random)
            network.update(*one_cycle(step, steps, plan.learning_rate / 10), plan.weight_decay)
    return network.head()


def train_logistic(vectors: Matrix, labels: NDArray[np.int64], categories: int) -> MlpHead:
    """Fit a multinomial logistic regression as a head without hidden units.

    Minimises the sum of the cross-entropies plus ``|weights|² / (2 LOGISTIC_STRENGTH)``, the bias free, by L-BFGS
    from 0.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers below ``categories``.
        categories: number of categories.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    minimize: Callable[..., object] = require("scipy.optimize", what="fitting an index", extra="build").minimize
    width = vectors.shape[1]
    targets = np.zeros((len(vectors), categories), dtype=np.float32)
    targets[np.arange(len(vectors)), labels] = 1

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = _parts(flat, width)
        logits = vectors @ weights + bias
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        sums = chances.sum(axis=1, keepdims=True)
        total = float(np.log(sums).sum(dtype=np.float64) - (targets * logits).sum(dtype=np.float64))
        chances /= sums
        chances -= targets
        slope = np.concatenate([(vectors.T @ chances + weights / LOGISTIC_STRENGTH).ravel(), chances.sum(axis=0)])
        return total + float((weights * weights).sum(dtype=np.float64)) / (2 * LOGISTIC_STRENGTH), slope.astype(
            np.float64
        )

    start = np.zeros((width + 1) * categories)
    options = {"maxiter": LOGISTIC_STEPS, "ftol": 1e-6}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    weights, bias = _parts(np.asarray(getattr(found, "x", start)), width)
    hidden, output = np.zeros((width, 0), np.float32), np.zeros((0, categories), np.float32)
    return MlpHead(hidden, np.zeros(0, np.float32), weights, output, bias)


def _parts(flat: NDArray[np.float64], width: int) -> tuple[Matrix, Matrix]:
    rows = flat.astype(np.float32).reshape(width + 1, -1)
    return np.ascontiguousarray(rows[:-1]), rows[-1].copy()


class _Noise:
    """Random vectors for the rows of each batch.

    Args:
        noise: their length, relative to that of a row.
        rows: of a batch.
        width: of a row.
        random: generator.
    """

    def __init__(self, noise: float, rows: int, width: int, random: np.random.Generator) -> None:
        self._taken = rows * width
        self._random = random
        self._drawn = random.standard_normal(max(NOISE_DRAWN, 2 * self._taken), dtype=np.float32)
        self._drawn *= np.float32(SCALE * noise / width**0.5)

    def added(self, inputs: Matrix) -> Matrix:
        """Add a random vector to each row, and restore the row's length.

        The length is :data:`SCALE`.
        """
        start = int(self._random.integers(len(self._drawn) - self._taken))
        noisy: Matrix = inputs + self._drawn[start : start + self._taken].reshape(inputs.shape)
        noisy *= np.float32(SCALE) / np.sqrt(np.einsum("ij,ij->i", noisy, noisy))[:, None]
        return noisy


def one_cycle(step: int, steps: int, peak: float) -> tuple[float, float]:
    """Return the learning rate and Adam's first decay at ``step``.

    The rate rises from a 25th of ``peak`` over .3 of the steps and falls to nearly 0, both along a cosine, while the
    decay goes from .95 to .85 and back (Smith and Topin 2017, "Super-Convergence", https://arxiv.org/abs/1708.07120,
    with the constants of torch's OneCycleLR).
    """
    peak_step = max(0.3 * steps - 1, 1e-9)
    if step <= peak_step:
        share = step / peak_step
        return _along_cosine(peak / 25, peak, share), _along_cosine(0.95, 0.85, share)
    share = min((step - peak_step) / max(steps - 1 - peak_step, 1e-9), 1.0)
    return _along_cosine(peak, peak / 25e4, share), _along_cosine(0.85, 0.95, share)


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + cos(pi * share))


class _Network:
    """Weights of a head in training, in one flat array for Adam.

    Args:
        width: of the inputs.
        categories: outputs.
        hidden: units of the hidden layer.
        random: draws the first weights, uniform within ``1 / sqrt(inputs)`` as ``torch.nn.Linear`` does.
        head: source of the first weights; None draws them.
    """

    def __init__(
        self, width: int, categories: int, hidden: int, random: np.random.Generator, head: MlpHead | None = None
    ) -> None:
        shapes = [(width, hidden), (hidden,), (width, categories), (hidden, categories), (categories,)]
        sizes = [int(np.prod(shape)) for shape in shapes]
        self._flat, self._slope, self._mean, self._square = (np.zeros(sum(sizes), dtype=np.float32) for _ in range(4))
        self._room = np.empty(BLOCK, dtype=np.float32)
        boundaries = np.cumsum(sizes)[:-1]
        self._weights, self._slopes = (
            [part.reshape(shape) for part, shape in zip(np.split(buffer, boundaries), shapes, strict=True)]
            for buffer in (self._flat, self._slope)
        )
        if head is not None:
            initial = (head.hidden / SCALE, head.hidden_bias, head.direct / SCALE, head.output, head.output_bias)
            for weights, values in zip(self._weights, initial, strict=True):
                weights[...] = values
        else:
            for weights, inputs in zip(self._weights, (width, width, width, hidden, hidden), strict=True):
                weights[...] = random.uniform(-(inputs**-0.5), inputs**-0.5, weights.shape)
        self._decays = [1.0, 1.0]  # products of Adam's two decays so far

    def descend(self, inputs: Matrix, labels: NDArray[np.int64], plan: HeadPlan, random: np.random.Generator) -> None:
        """Compute the gradient of a batch's smoothed cross-entropy, with dropout."""
        hidden, hidden_bias, direct, output, output_bias = self._weights
        rows, categories = len(inputs), len(output_bias)
        # A byte for each unit: its 256 values are fine enough, and four of them cost what one float does.
        level = round(256 * plan.dropout)
        random_bytes = np.frombuffer(random.bytes(rows * plan.hidden), np.uint8).reshape(rows, plan.hidden)
        mask = (random_bytes >= level) * np.float32(256 / (256 - level))
        active = inputs @ hidden
        active += hidden_bias
        mask *= active > 0
        active *= mask
        excess = active @ output  # becomes the probabilities minus their targets
        excess += inputs @ direct
        excess += output_bias
        excess -= excess.max(axis=1, keepdims=True)
        np.exp(excess, out=excess)
        excess /= excess.sum(axis=1, keepdims=True)
        excess -= np.float32(plan.smoothing / categories)
        excess[np.arange(rows), labels] -= np.float32(1 - plan.smoothing)
        excess /= np.float32(rows)
        to_hidden, to_hidden_bias, to_direct, to_output, to_output_bias = self._slopes
        np.matmul(active.T, excess, out=to_output)
        np.matmul(inputs.T, excess, out=to_direct)
        np.sum(excess, axis=0, out=to_output_bias)
        hidden_gradient = excess @ output.T
        hidden_gradient *= mask
        np.matmul(inputs.T, hidden_gradient, out=to_hidden)
        np.sum(hidden_gradient, axis=0, out=to_hidden_bias)

    def update(self, rate: float, first: float, decay: float, second: float = 0.999, epsilon: float = 1e-8) -> None:
        """Take one step of AdamW.

        Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.

        Args:
            rate: learning rate.
            first: decay of the mean of the gradients.
            decay: weight decay, as a share of ``rate``.
            second: decay of the mean of their squares.
            epsilon: added to the root of the latter.
        """
        self._decays[0] *= first
        self._decays[1] *= second
        # Both corrections for the start from zero go into the rate and into epsilon, which saves passes.
        root = (1 - self._decays[1]) ** 0.5
        step = np.float32(rate * root / (1 - self._decays[0]))
        for start in range(0, len(self._flat), BLOCK):
            weights, mean, square, slope = (
                array[start : start + BLOCK] for array in (self._flat, self._mean, self._square, self._slope)
            )
            scratch = self._room[: len(weights)]
            weights *= np.float32(1 - rate * decay)
            mean -= slope
            mean *= np.float32(first)
            mean += slope
            np.multiply(slope, slope, out=slope)
            square -= slope
            square *= np.float32(second)
            square += slope
            np.sqrt(square, out=scratch)
            scratch += np.float32(epsilon * root)
            np.divide(mean, scratch, out=scratch)
            scratch *= step
            weights -= scratch

    def head(self) -> MlpHead:
        """Return the head for serving, with the scale of the inputs folded in."""
        hidden, hidden_bias, direct, output, output_bias = (part.copy() for part in self._weights)
        hidden *= np.float32(SCALE)
        direct *= np.float32(SCALE)
        return MlpHead(hidden, hidden_bias, direct, output, output_bias)

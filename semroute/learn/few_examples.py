"""Fit categories of few examples, whose names count as examples too.

A category's name says what it is about, and so does its description. Up to :data:`FEW` different examples, each of them
counts as one more: it moves the prototypes and trains the head. It is never held out, so that thresholds and
calibration come from real examples alone. Validation leaves names out where they do harm, as names without meaning may;
where there are too few examples to hold any out, names always count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import accuracy
from semroute.learn.fit import USUAL_OPTIONS, FitOptions, Fitted, Split, fit, held_out_scores
from semroute.types import Matrix

FEW = 10
"""Number of different examples up to which a category's name counts as one. On the validation rows of the 150 intents
of CLINC150 names were worth 3 to 4 points of accuracy at 3 examples, half a point at 10 and nothing at 20."""

MAX_WORDS = 60
"""Words of a description that count: the rest is seldom about what belongs to the category."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NamedRows:
    """Names and descriptions as vectors.

    Attributes:
        vectors: ``(m, d)`` unit rows.
        labels: ``(m,)`` the category that each of them belongs to.
    """

    vectors: Matrix
    labels: Numbers


def few_categories(labels: Numbers, groups: Numbers) -> Numbers:
    """Return the categories with at most :data:`FEW` different examples.

    Args:
        labels: ``(n,)`` category numbers from 0, each present.
        groups: ``(n,)`` near-duplicate groups.
    """
    _, first = np.unique(groups, return_index=True)
    return np.flatnonzero(np.bincount(labels[first]) <= FEW)


def name_texts(
    names: Sequence[str], descriptions: Mapping[str, str], categories: Numbers, examples: Collection[str]
) -> tuple[list[str], list[int]]:
    """Return the texts that stand for categories, and the category of each.

    Args:
        names: all names, in the order of the category numbers.
        descriptions: by name; empty for none.
        categories: numbers of those to describe.
        examples: all examples; a text that is one of them is not repeated.

    Returns:
        A name's words, and the description where there is one that says more.
    """
    known = {text.casefold() for text in examples}
    texts, owners = [], []
    for category in categories.tolist():
        name = names[category]
        description = " ".join(descriptions.get(name, "").split()[:MAX_WORDS])
        said = [words_of(name), description if description != name else ""]
        own = [text for text in said if text and text.casefold() not in known]
        if len(own) == 2 and own[0].casefold() == own[1].casefold():
            own.pop()
        texts += own
        owners += [category] * len(own)
    return texts, owners


def words_of(name: str) -> str:
    """Split a name such as ``card_arrival`` or ``cardArrival`` into words.

    It is empty where the name has no letter, as the number of a cluster.
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = " ".join(re.split(r"[\W_]+", parted)).strip()
    return words if any(character.isalpha() for character in words) else ""


def fit_named(
    vectors: Matrix,
    labels: Numbers,
    named: NamedRows | None,
    *,
    groups: Numbers,
    options: FitOptions = USUAL_OPTIONS,
) -> Fitted:
    """Fit as :func:`~semroute.learn.fit.fit` does, names among the examples.

    Args:
        vectors: ``(n, d)`` unit rows of the examples.
        labels: ``(n,)`` category numbers from 0, each present.
        named: names of the categories with few examples; None for none.
        groups: ``(n,)`` near-duplicate groups.
        options: settings of the fit.

    Returns:
        A fit whose report holds ``names``, the number of names that count, where there are any to choose from.
    """
    if named is None or not len(named.labels):
        return fit(vectors, labels, groups=groups, options=options)
    plan = options.splits(labels, groups)
    count = len(named.labels)
    rows, owners = np.concatenate([vectors, named.vectors]), np.concatenate([labels, named.labels])
    all_groups = np.concatenate([groups, groups.max() + 1 + np.arange(count)])
    extra = len(labels) + np.arange(count)
    with_names = [Split(np.concatenate([split.fit, extra]), split.held) for split in plan]
    harm = bool(plan) and _are_harmful(
        _accuracy(rows, owners, all_groups, with_names, options.seed),
        _accuracy(vectors, labels, groups, plan, options.seed),
        plan,
    )
    if harm:
        fitted = fit(vectors, labels, groups=groups, options=options)
        return replace(fitted, report={**fitted.report, "names": 0})
    fitted = fit(rows, owners, groups=all_groups, names=count, options=replace(options, plan=with_names))
    return replace(fitted, report={**fitted.report, "names": count})


def _are_harmful(with_names: float, without: float, plan: Sequence[Split]) -> bool:
    """Return True if accuracy drops by more than half a standard error.

    See :func:`~semroute.learn.fit.choose`.
    """
    held = sum(len(split.held) for split in plan)
    return with_names < without - 0.5 * math.sqrt(without * (1 - without) / held)


def _accuracy(vectors: Matrix, labels: Numbers, groups: Numbers, plan: Sequence[Split], seed: int) -> float:
    """Return the held-out accuracy of one prototype per category."""
    held_out = held_out_scores(vectors, labels, plan, groups=groups, head=None, seed=seed)
    return accuracy(held_out.similarities[1], held_out.labels)

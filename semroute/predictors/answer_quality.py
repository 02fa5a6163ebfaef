"""Answer classifier: probability that an answer is acceptable.

It uses the texts of query and answer, and log probabilities of tokens where there are some. Its artifact folder and the
check of a configuration that names it are here too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from semroute.config import Config, Problem
from semroute.config.cascade import Accept, CascadeConfig
from semroute.config.values import dotted
from semroute.errors import ArtifactError
from semroute.storage import MANIFEST, NUMBER, SHARE, TEXTS, ArrayFolder
from semroute.text.arithmetic import Arithmetic, arithmetic, numbers
from semroute.text.code import looks_like_code

# Feature hashing of words and word pairs.
#
# Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009: no vocabulary has to be
# kept, and an unseen word does no harm.

BUCKETS = 4096
SEEN = 6000
"""Number of characters at each end of a text whose words are hashed."""

_WORD = re.compile(r"[^\W\d_]+|[^\w\s]|\d")


def hashed(text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the buckets of words and word pairs, and their weights.

    Buckets ascend; weights are counts, scaled so that the vector has length 1.

    The hash is CRC-32, the same on every machine, unlike Python's own.
    """
    window = text if len(text) <= 2 * SEEN else f"{text[:SEEN]} {text[-SEEN:]}"
    words = [word.encode("utf-8", "replace") for word in _WORD.findall(window.casefold())]
    units = words + [first + b" " + second for first, second in pairwise(words)]
    if not units:
        return np.zeros(0, np.int64), np.zeros(0)
    buckets, counts = np.unique([crc32(unit) % BUCKETS for unit in units], return_counts=True)
    weights = counts.astype(np.float64)
    return buckets.astype(np.int64), weights / float(np.linalg.norm(weights))


# Surface features of an answer and its query.

MAX_CHARACTERS = 20_000
"""Number of analysed characters of a text; the rest of a longer one counts in its length alone."""

_SENTENCE = re.compile(r"[.!?…。！？](?=\s|$)")
_FINAL = re.compile(r"####|\banswer(?: is)?:?\s|\\boxed\{|\btherefore\b|\bin total\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:however|assum\w*|unclear|not sure|unsure|might|perhaps|probably|approximately|maybe)\b", re.IGNORECASE
)
_NOT = re.compile(r"\b(?:not|no|never|none|cannot)\b|n't\b", re.IGNORECASE)
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ("<<", ">>"))
_FEW = 6


def shape(query: str, answer: str) -> Mapping[str, float]:
    """Return the surface features by name, in a fixed order.

    Lengths are logarithms, counts are capped.

    Of the answer: length, whether it ends like a complete answer, whether brackets and fences are closed, result marks,
    hedges, denials, questions; the sums that it states and whether they are right; its last number. Of both: how many
    of the query's numbers the answer uses, and the ratio of their lengths. Of the query: length, sentences, questions,
    numbers.
    """
    query_text, answer_text = query[:MAX_CHARACTERS], answer[:MAX_CHARACTERS]
    return MappingProxyType(
        {**_form(answer, answer_text), **_figures(query_text, answer_text), **_query(query, query_text, answer)}
    )


def _form(answer: str, answer_text: str) -> dict[str, float]:
    end = answer_text.rstrip()[-1:]
    return {
        "characters": math.log1p(len(answer)),
        "words": math.log1p(len(answer_text.split())),
        "lines": math.log1p(answer_text.strip().count("\n")),
        "sentences": math.log1p(len(_SENTENCE.findall(answer_text))),
        "ends a sentence": float(end in '.!?…。！？)"*' and end != ""),
        "ends in a digit": float(end.isdigit()),
        "ends a line": float(answer_text.endswith("\n")),
        "open brackets": float(
            any(answer_text.count(opened) != answer_text.count(closed) for opened, closed in _PAIRS)
        ),
        "open fence": float(answer_text.count("```") % 2),
        "marks a result": float(_FINAL.search(answer_text) is not None),
        "result mark": float("####" in answer_text),
        "hedges": float(min(len(_HEDGE.findall(answer_text)), _FEW)),
        "denials": float(min(len(_NOT.findall(answer_text)), _FEW)),
        "questions": float(min(answer_text.count("?"), _FEW)),
        "code": float(looks_like_code(answer_text)),
    }


def _figures(query_text: str, answer_text: str) -> dict[str, float]:
    answer_numbers, query_numbers = numbers(answer_text), numbers(query_text)
    sums: Arithmetic = arithmetic(answer_text)
    equations = sums.right + sums.wrong
    final = answer_numbers[-1] if answer_numbers else 0.0
    return {
        "numbers": math.log1p(len(answer_numbers)),
        "sums": math.log1p(equations),
        "right sums": math.log1p(sums.right),
        "wrong sums": float(min(sums.wrong, _FEW)),
        "a wrong sum": float(sums.wrong > 0),
        "share of right sums": sums.right / equations if equations else 0.5,
        "last number": math.log1p(final),
        "last is whole": float(final == int(final)),
        "last was given": float(final in query_numbers),
        "last is repeated": float(answer_numbers.count(final) > 1),
        "new numbers": math.log1p(len(set(answer_numbers) - set(query_numbers))),
        "given numbers": math.log1p(len(query_numbers)),
        "given numbers used": sum(number in answer_numbers for number in query_numbers) / len(query_numbers)
        if query_numbers
        else 0.5,
    }


def _query(query: str, query_text: str, answer: str) -> dict[str, float]:
    return {
        "query characters": math.log1p(len(query)),
        "query words": math.log1p(len(query_text.split())),
        "query sentences": math.log1p(len(_SENTENCE.findall(query_text))),
        "query questions": float(min(query_text.count("?"), _FEW)),
        "query per cent": float("%" in query_text),
        "query fraction": float("/" in query_text),
        "query code": float(looks_like_code(query_text)),
        "length ratio": math.log1p(len(answer)) - math.log1p(len(query)),
    }


SHAPE = tuple(shape("", ""))
"""Names of the surface features."""


# Features of the log probabilities of an answer's tokens.
#
# Quantiles are more informative than the mean, in which a long fluent answer can hide a wild guess: Gupta et al.,
# "Language Model Cascades: Token-level uncertainty and beyond", ICLR 2024, https://arxiv.org/abs/2404.10136.

QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75)
MIN_LOGPROB = -20.0
"""Log probabilities below are cut: servers write a probability of 0 as a large negative number."""

TOKENS = (
    *(f"quantile {level:g}" for level in QUANTILES),
    "mean", "first", "last", "unlikely", "tokens", "no log probabilities",
)  # fmt: skip
"""Names of the token features."""


def token_features(logprobs: Sequence[float]) -> list[float]:
    """Return features of the log probabilities of an answer's tokens.

    Quantiles, mean, the first and last token's, the share of tokens below one half, and the logarithm of their number.
    Without log probabilities they are NaN, but for the last, the indicator of that.
    """
    if not len(logprobs):
        return [math.nan] * (len(TOKENS) - 1) + [1.0]
    values = np.clip(np.asarray(logprobs, np.float64), MIN_LOGPROB, 0.0)
    return [
        *map(float, np.quantile(values, QUANTILES)),
        float(values.mean()),
        float(values[0]),
        float(values[-1]),
        float((values < math.log(0.5)).mean()),
        math.log1p(len(values)),
        0.0,
    ]


# Inference, in numpy.

Vector = NDArray[np.float64]
NO_LOGPROBS: tuple[float, ...] = ()
CUT = 5.0
"""Standard deviations at which a feature is clipped, so that no unusual text exceeds the training data."""

BLOCKS = {"shape": SHAPE, "tokens": TOKENS}
"""Dense features by block; the third block, ``words``, is hashed."""


@dataclass(frozen=True)
class AnswerClassifier:
    """Logistic regression on surface features, words and token features.

    ``1 / (1 + exp(-(weights . clip((x - mean) / scale) + answer_words . h(answer) + query_words . h(query) + bias)))``

    Attributes:
        blocks: those of ``shape``, ``words`` and ``tokens`` that it uses, in this order.
        mean, scale, weights: ``(f,)`` float64 of the dense features; a missing one counts as its mean.
        answer_words, query_words: ``(4096,)`` float64, zero without the block ``words``.
        bias: float; the calibration is folded into all of these.
        threshold: probability from which an answer is accepted, unless the configuration sets another.
    """

    blocks: tuple[str, ...]
    mean: Vector
    scale: Vector
    weights: Vector
    answer_words: Vector
    query_words: Vector
    bias: float
    threshold: float = 0.5

    @property
    def wants_logprobs(self) -> bool:
        """True if it uses log probabilities of tokens.

        Without them it predicts from the other features.
        """
        return "tokens" in self.blocks

    def probability(self, query: str, answer: str, logprobs: Sequence[float] = NO_LOGPROBS) -> float:
        """Return the probability that the answer is acceptable, 0 to 1.

        Args:
            query: the routed text.
            answer: the model's answer.
            logprobs: of the answer's tokens, natural logarithms; empty where there are none.
        """
        score = self.bias + float(self.weights @ scaled(dense(self.blocks, query, answer, logprobs), self))
        if "words" in self.blocks:
            for text, words in ((answer, self.answer_words), (query, self.query_words)):
                buckets, weights = hashed(text)
                score += float(words[buckets] @ weights)
        # math.exp overflows beyond 709; beyond 40 a double is as good as certain.
        return 1.0 / (1.0 + math.exp(-min(40.0, max(-40.0, score))))


def dense(blocks: Sequence[str], query: str, answer: str, logprobs: Sequence[float]) -> Vector:
    """Return the ``(f,)`` dense features of the blocks, in their order."""
    parts: list[float] = []
    if "shape" in blocks:
        parts += shape(query, answer).values()
    if "tokens" in blocks:
        parts += token_features(logprobs)
    return np.array(parts, dtype=np.float64)


def scaled(features: Vector, classifier: AnswerClassifier) -> Vector:
    """Standardise and clip features; missing ones become 0.

    ``(f,)`` or ``(n, f)``, in standard deviations from their means.
    """
    return np.nan_to_num(np.clip((features - classifier.mean) / classifier.scale, -CUT, CUT), nan=0.0)


def feature_names(blocks: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the dense features of some blocks."""
    return tuple(name for block, names in BLOCKS.items() if block in blocks for name in names)


def no_words() -> Vector:
    """Return the word weights of a classifier without the block ``words``."""
    return np.zeros(BUCKETS)


# Artifact folder.

FOLDER = ArrayFolder(
    format="semroute-answer-classifier",
    version=1,
    what="classifier of answers",
    command="semroute train-checks OUTCOMES --out",
    keys={"blocks": TEXTS, "features": TEXTS, "bias": NUMBER, "threshold": SHARE},
)
_ARRAYS = ("mean", "scale", "weights", "answer_words", "query_words")


def write_classifier(classifier: AnswerClassifier, folder: Path, *, report: Mapping[str, Any]) -> None:
    """Write a classifier; an existing one is replaced atomically.

    Args:
        classifier: the trained classifier.
        folder: created if missing.
        report: training data and metrics; JSON-ready.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    manifest = {
        "blocks": list(classifier.blocks), "features": list(feature_names(classifier.blocks)), "buckets": BUCKETS,
        "bias": classifier.bias, "threshold": classifier.threshold, **report,
    }  # fmt: skip
    FOLDER.write(folder, manifest, {name: getattr(classifier, name) for name in _ARRAYS})


@np.errstate(all="ignore")  # out-of-range numbers are detected in the result
def read_classifier(folder: Path) -> AnswerClassifier:
    """Read and check a classifier that :func:`write_classifier` wrote.

    Raises:
        ArtifactError: it is missing, damaged, foreign, or of another version; the message names the remedy.
    """
    stored = FOLDER.read(folder)
    manifest, arrays = stored.manifest, stored.arrays
    try:
        classifier = AnswerClassifier(
            tuple(manifest["blocks"]),
            bias=float(manifest["bias"]),
            threshold=float(manifest["threshold"]),
            **{name: np.asarray(arrays[name], np.float64) for name in _ARRAYS},
        )
        shapes = {name: getattr(classifier, name).shape for name in _ARRAYS}
        if not all(np.isfinite(getattr(classifier, name)).all() for name in _ARRAYS) or not classifier.scale.all():
            raise ValueError("a number is not finite, or a scale is 0")
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactError(f"{folder}: not the arrays of a classifier of answers ({error}); train it again") from error
    names = feature_names(classifier.blocks)
    array_shapes = {name: (BUCKETS,) if name.endswith("words") else (len(names),) for name in _ARRAYS}
    if tuple(manifest["features"]) != names or shapes != array_shapes:
        raise ArtifactError(f"{folder / MANIFEST}: trained with other features than this version's; train it again")
    return classifier


def check_classifiers(config: Config) -> list[Problem]:
    """Return an error for each ``quality`` check with no usable classifier."""
    problems = list(_classifiers_of(config.cascade, ("cascade",)))
    for name, category in config.categories.items():
        if category.cascade is not None:
            problems += _classifiers_of(category.cascade, ("categories", name, "cascade"))
    return problems


def _classifiers_of(cascade: CascadeConfig, key: tuple[str | int, ...]) -> Iterator[Problem]:
    if not cascade.tiers:
        return
    yield from _problem(cascade.accept, (*key, "accept"))
    for position, tier in enumerate(cascade.tiers):
        if tier.accept is not None:
            yield from _problem(tier.accept, (*key, "tiers", position, "accept"))


def _problem(accept: Accept, key: tuple[str | int, ...]) -> Iterator[Problem]:
    if accept.quality is not None:
        try:
            read_classifier(accept.quality.classifier)
        except ArtifactError as error:
            yield Problem("error", dotted((*key, "quality")), str(error))

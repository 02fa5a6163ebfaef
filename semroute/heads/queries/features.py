"""What a query looks like, as numbers: what a model would need to be good at is often written on its face.

On subjects that were never seen in training these tell more than vectors do (``scripts/bench_policy.py``): a vector
says what a query is about, and a new subject is about something new; its form is as everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import numpy as np

from semroute.texts.code import looks_like_code
from semroute.texts.domains import DOMAINS, domain_counts
from semroute.texts.entities import acronyms, amounts, dates, names
from semroute.texts.mathematics import formulas, symbols, units
from semroute.texts.options import MultipleChoice, choice
from semroute.texts.questions import KINDS, question_kinds
from semroute.types import Matrix

MOST_CHARACTERS = 8_000
"""Of a text: half at each end; the rest of a longer one is counted in its length alone."""

UNKNOWN = -1.0
"""A feature of options where there are none."""

_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"[.!?…。！？](?=\s|$)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NUMERIC = re.compile(r"[\s$€£(]{0,4}-?[\d.,/^×* +-]{1,30}%?[^\W\d]{0,12}[).]?")
_OF_THE_OTHERS = re.compile(r"\b(?:all|none|both|neither) of the\b|\b(?:both|neither|I and II)\b", re.IGNORECASE)
_MARKS = {
    "operators": "+*/=^<>", "brackets": "()[]{}", "money": "$€£", "per cent": "%", "backslashes": "\\",
    "quotes": "\"'“”‘’", "commas": ",", "colons": ":;", "dashes": "-–—", "question marks": "?",
}  # fmt: skip
_COMMON = frozenset("the of and to a in is that for it as with be on by are this was an from or at which not".split())


def features(query: str) -> Mapping[str, float]:
    """The features by name, in an order that never changes; lengths and counts as ``log(1 + x)``.

    Grouped in :data:`BLOCKS`: length and form of the text, numbers and mathematics, code, entities, the options of a
    multiple choice, the kind of question, words of domains, and language: the share of letters beyond ASCII and of
    common English words.
    """
    seen = (
        query if len(query) <= MOST_CHARACTERS else f"{query[: MOST_CHARACTERS // 2]} {query[-MOST_CHARACTERS // 2 :]}"
    )
    asked = choice(seen)
    words = [word.lower() for word in _WORD.findall(seen)]
    found: dict[str, float] = {}
    for make in (_length, _form, _numbers, _options, _rest):
        found |= make(query, seen, words, asked)
    return MappingProxyType(found)


def feature_matrix(queries: Sequence[str]) -> Matrix:
    """``(n, f)`` float32 features, columns as :data:`FEATURES`."""
    rows = [list(features(query).values()) for query in queries]
    return np.array(rows, np.float32).reshape(len(queries), len(FEATURES))


def _length(query: str, seen: str, words: list[str], asked: MultipleChoice) -> dict[str, float]:
    return {
        "length: characters": math.log1p(len(query)),
        "length: words": math.log1p(len(words)),
        "length: sentences": math.log1p(len(_SENTENCE.findall(asked.stem))),
        "length: lines": math.log1p(seen.strip().count("\n")),
        "length: before the options": math.log1p(len(asked.stem)),
    }


def _form(query: str, seen: str, words: list[str], asked: MultipleChoice) -> dict[str, float]:
    sizes = [len(word) for word in words] or [0]
    stem, size = asked.stem.rstrip(), max(1, len(seen))
    return {
        "form: mean word": sum(sizes) / len(sizes),
        "form: longest word": float(min(max(sizes), 30)),
        "form: different words": len(set(words)) / max(1, len(words)),
        "form: capitals": sum(map(str.isupper, seen)) / size,
        "form: ends as a question": float(stem.endswith("?")),
        "form: ends as a statement": float(stem.endswith((".", ":", ","))),
        "form: gap to fill": float("___" in seen),
        **{f"form: {name}": math.log1p(sum(map(seen.count, marks))) for name, marks in _MARKS.items()},
        "language: beyond ASCII": sum(not character.isascii() for character in seen) / size,
        "language: common English words": sum(word in _COMMON for word in words) / max(1, len(words)),
    }


def _numbers(query: str, seen: str, words: list[str], asked: MultipleChoice) -> dict[str, float]:
    return {
        "numbers: all": math.log1p(len(_NUMBER.findall(seen))),
        "numbers: before the options": math.log1p(len(_NUMBER.findall(asked.stem))),
        "numbers: share of digits": sum(map(str.isdigit, seen)) / max(1, len(seen)),
        "mathematics: symbols": math.log1p(symbols(seen)),
        "mathematics: formulas": math.log1p(formulas(seen)),
        "mathematics: units": math.log1p(units(seen)),
        "code: looks like it": float(looks_like_code(seen)),
        "entities: names": math.log1p(names(seen)),
        "entities: acronyms": math.log1p(acronyms(seen)),
        "entities: dates": math.log1p(dates(seen)),
        "entities: amounts": math.log1p(amounts(seen)),
    }


def _options(query: str, seen: str, words: list[str], asked: MultipleChoice) -> dict[str, float]:
    options = asked.options
    if not options:
        return {name: 0.0 if name == "options: how many" else UNKNOWN for name in OPTIONS}
    count, sizes = len(options), [len(option) for option in options]
    mean = sum(sizes) / count
    sets = [frozenset(word.lower() for word in _WORD.findall(option)) for option in options]
    stem = frozenset(word.lower() for word in _WORD.findall(asked.stem))
    pairs = [len(one & other) / max(1, len(one | other)) for one, other in combinations(sets[:8], 2)]
    values = (
        float(count),
        math.log1p(mean),
        math.log1p(max(sizes)),
        math.log1p(min(sizes)),
        (max(sizes) - min(sizes)) / (1.0 + mean),
        sum(_NUMERIC.fullmatch(option) is not None for option in options) / count,
        sum(any(map(str.isdigit, option)) for option in options) / count,
        sum("," in option for option in options) / count,
        float(any(_OF_THE_OTHERS.search(option) for option in options)),
        sum(len(one & stem) / max(1, len(one)) for one in sets) / count,
        sum(pairs) / max(1, len(pairs)),
    )
    return dict(zip(OPTIONS, values, strict=True))


def _rest(query: str, seen: str, words: list[str], asked: MultipleChoice) -> dict[str, float]:
    kinds = zip(KINDS, question_kinds(asked.stem), strict=True)
    counts = zip(DOMAINS, domain_counts(seen), strict=True)
    return {
        **{f"question: {kind}": float(is_one) for kind, is_one in kinds},
        **{f"domain: {domain}": math.log1p(count) for domain, count in counts},
    }


OPTIONS = (
    "options: how many", "options: mean length", "options: longest", "options: shortest", "options: spread of lengths",
    "options: numeric", "options: with digits", "options: with commas", "options: all or none of the others",
    "options: words of the question", "options: words in common",
)  # fmt: skip

FEATURES = tuple(features(""))
"""Names of the features; what stands before the colon is the block."""

BLOCKS = tuple(dict.fromkeys(name.split(":")[0] for name in FEATURES))

"""Break routing accuracy down by language and by kind of query."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.errors import MissingExtraError
from semroute.evaluate.metrics import wilson_interval
from semroute.evaluate.routing import OUT_OF_SCOPE, ScoredQueries, decide
from semroute.text.code import looks_like_code
from semroute.text.language import detect_language

FEW_EXAMPLES = 10
"""Number of examples up to which a category counts as one with few."""

SHORT_WORDS = 12
"""Maximum number of words of a short query."""

MIN_LANGUAGE = 10
"""Minimum number of queries of a language that gets a row of its own: detection errs on a few short texts, and their
languages are merged."""

MIN_GROUP = 30
"""Number of queries below which a group is marked: its interval is some 20 points wide or more."""

_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_SPEAKER = re.compile(
    r"^[ \t]*(?:user|human|customer|assistant|ai|bot|agent|system)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_SEEN = 4000


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Routing figures of a group of queries.

    Attributes:
        aspect: ``language``, ``length``, ``content`` or ``examples``.
        group: name of the group.
        n: number of queries, those out of scope included.
        accuracy: share decided correctly, thresholds applied; an out-of-scope query is correct when it is rejected.
        accuracy_interval: its 95% interval (Wilson).
        rejected: share of the in-scope queries that are rejected; None without any.
        is_small: True below :data:`MIN_GROUP` queries.
        is_weak: True if the whole interval lies below that of all other queries.
    """

    aspect: str
    group: str
    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    rejected: float | None
    is_small: bool
    is_weak: bool

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "aspect": self.aspect,
            "group": self.group,
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "rejected": self.rejected,
            "small": self.is_small,
            "weak": self.is_weak,
        }


def break_down(
    queries: Sequence[str], scored: ScoredQueries, thresholds: NDArray[np.float64], examples: Mapping[str, int]
) -> tuple[GroupFigures, ...]:
    """Return the figures of each group of queries, aspect by aspect.

    An aspect whose queries are all in one group has that one row.

    Args:
        queries: ``n`` texts.
        scored: their labels and scores.
        thresholds: as in :func:`~semroute.evaluate.routing.evaluate`.
        examples: number of examples by category.
    """
    top, accepted = decide(scored.scores, thresholds)
    is_correct = np.where(accepted, top, OUT_OF_SCOPE) == scored.labels
    aspects: dict[str, Sequence[str | None]] = {
        "language": languages(queries),
        "length": [length_of(query) for query in queries],
        "content": [content_of(query) for query in queries],
        "examples": _example_groups(scored, examples),
    }
    return tuple(
        _figures(aspect, name, np.array([group == name for group in groups]), is_correct, accepted, scored.in_scope)
        for aspect, groups in aspects.items()
        for name in _in_order(groups)
    )


def _figures(
    aspect: str,
    name: str,
    members: NDArray[np.bool_],
    is_correct: NDArray[np.bool_],
    accepted: NDArray[np.bool_],
    in_scope: NDArray[np.bool_],
) -> GroupFigures:
    n, hits = int(members.sum()), int(is_correct[members].sum())
    low, high = wilson_interval(hits, n)
    inside, others = members & in_scope, is_correct[~members]
    return GroupFigures(
        aspect=aspect,
        group=name,
        n=n,
        accuracy=hits / n,
        accuracy_interval=(low, high),
        rejected=float((~accepted[inside]).mean()) if inside.any() else None,
        is_small=n < MIN_GROUP,
        is_weak=high < wilson_interval(int(others.sum()), len(others))[0],
    )


_ORDER = ("one word", "short", "long", "prose", "code", "conversation")
_MERGED = "other languages"


def _in_order(groups: Sequence[str | None]) -> list[str]:
    """Return the groups' names: fixed ones in their order, others by size."""
    counts = Counter(group for group in groups if group is not None)
    return sorted(
        counts,
        key=lambda name: (name == _MERGED, _ORDER.index(name) if name in _ORDER else -1, -counts[name], name),
    )


def _example_groups(scored: ScoredQueries, examples: Mapping[str, int]) -> list[str | None]:
    """Return the group of each query by its category's number of examples.

    None for queries out of scope, which have no category.
    """
    few, many = f"at most {FEW_EXAMPLES} examples", f"over {FEW_EXAMPLES} examples"
    group_of = [few if examples.get(name, 0) <= FEW_EXAMPLES else many for name in scored.categories]
    return [None if label == OUT_OF_SCOPE else group_of[label] for label in scored.labels.tolist()]


def length_of(query: str) -> str:
    """Return ``one word``, ``short`` or ``long``.

    Two characters count as a word in scripts without spaces.
    """
    words = len(_SPACELESS.sub(" ", query).split()) + (len(_SPACELESS.findall(query)) + 1) // 2
    if words <= 1:
        return "one word"
    return "short" if words <= SHORT_WORDS else "long"


def content_of(query: str) -> str:
    """Return ``conversation``, ``code`` or ``prose``.

    A conversation has at least two lines that name a speaker, such as ``User:`` and ``Assistant:``.
    """
    if len(_SPEAKER.findall(query[:_SEEN])) > 1:
        return "conversation"
    return "code" if looks_like_code(query) else "prose"


def languages(queries: Sequence[str]) -> list[str]:
    """Return the language of each query, rare ones merged.

    They are ISO 639-1 codes, ``not detected``, or, without the extra "language", names of scripts such as
    ``Latin script``. Languages of fewer than :data:`MIN_LANGUAGE` queries become ``other languages``.
    """
    try:
        found = [detect_language(query) or "not detected" for query in queries]
    except MissingExtraError:
        found = [script_of(query) for query in queries]
    counts = Counter(found)
    rare = {name for name, count in counts.items() if count < MIN_LANGUAGE and name != "not detected"}
    # One language alone is named: there is nothing to merge it with.
    return found if len(rare) < 2 else [_MERGED if name in rare else name for name in found]


def script_of(query: str) -> str:
    """Return the most frequent script of the letters, as ``Latin script``.

    ``not detected`` for a text without letters.
    """
    letters = [character for character in query[:_SEEN] if character.isalpha()]
    scripts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    if not scripts:
        return "not detected"
    script = min(scripts, key=lambda name: (-scripts[name], name))
    return f"{'Han' if script == 'CJK' else script.capitalize()} script"

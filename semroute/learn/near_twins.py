"""Groups of examples that say nearly the same: spellings, filled templates, and paraphrases that the encoder equates.

A fold holds a group whole, and a group weighs like one example. Otherwise an example is judged by its own twin:
validation is perfect, and thresholds lie where no new query comes.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from semroute.learn.boilerplate import without_boilerplate
from semroute.types import Matrix

SAME = 0.97
"""Cosine from which two texts say the same to the encoder, whatever their words."""

NEAR = 0.9
"""Cosine that, with nearly the same words, makes twins of two texts."""

COMMON_WORDS = 0.75
"""Jaccard similarity of the word sets of such two texts."""

CONTAINED = 0.7
CONTAINED_WORDS = 0.4
"""Cosine, and share of the longer one's words, from which a text and the same text with words around it are twins."""

TEMPLATE_FROM = 3
"""Texts that share all but one run of words before the run counts as the slot of a template."""

LITERAL = 0.7
"""Share of its words that a template must keep when a slot is cut out, and that number at the least:"""
FEWEST_LITERALS = 3
LONGEST_SLOT = 3
LONGEST_TEMPLATE = 40
LONGEST_MASKED = 2000
ROUNDS = 4
LONG_WORD = 5
"""Letters from which a word may be misspelt in a text of fewer words than a template must keep."""
MOST_SPELLINGS = 32
"""Texts that are the same but for one word, beyond which the word is a slot."""
MOST_COMPARED = 20_000
"""Examples of one category beyond which vectors are no longer compared, a matter of minutes."""

_QUOTED = re.compile(
    r"\"[^\"\n]{1,80}\"|“[^”\n]{1,80}”|«[^»\n]{1,80}»|„[^“”\n]{1,80}[“”]|`[^`\n]{1,80}`|\{[^{}\n]{1,80}\}"
)
_LINKS = re.compile(r"\b(?:https?://|www\.)\S+|\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.]{1,64}")
_NUMBERS = re.compile(r"#?\b(?=[\w.,:/-]{0,64}\d)(?:\w|[.,:/-](?=\w)){1,128}")
_SLOT = "\0"
_COURTESY = frozenset(
    [
        "please",
        "pls",
        "plz",
        "kindly",
        "hi",
        "hello",
        "hey",
        "thanks",
        "thank",
        "you",
        "thx",
        "bitte",
        "danke",
        "hallo",
        "merci",
        "bonjour",
    ]
)


def template_key(text: str) -> str:
    """Return ``text`` without what does not make another example of it.

    Compatibility characters, case, punctuation and white space are made alike; numbers, identifiers, links and quoted
    words become a slot; words of courtesy at either end go.
    """
    plain = text = unicodedata.normalize("NFKC", text).casefold()
    for pattern in (_QUOTED, _LINKS, _NUMBERS) if len(text) <= LONGEST_MASKED else ():
        masked = pattern.sub(f" {_SLOT} ", text)
        # What stands whole in quotation marks is no slot of anything.
        text = masked if any(character.isalnum() for character in masked) else text
    # Apostrophes join ("what's"), other punctuation separates; symbols stay, for an emoji may be all that there is.
    text = text.replace("'", "").replace("\u2019", "")
    text = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in text)
    words = [word for word, before in pairwise([*text.split(), ""]) if word != before]  # "my my order"
    start, end = 0, len(words)
    while start < end and words[start] in _COURTESY:
        start += 1
    while end > start and words[end - 1] in _COURTESY:
        end -= 1
    return " ".join(words[start:end] or words) or " ".join(plain.split())


def near_twins(texts: Sequence[str], labels: NDArray[np.int64], vectors: Matrix | None = None) -> NDArray[np.int64]:
    """Group examples that say nearly the same; ``(n,)`` group numbers from 0, each within one category.

    Args:
        texts: the examples.
        labels: ``(n,)`` category numbers from 0.
        vectors: ``(n, d)`` unit rows; None goes by the texts alone.
    """
    bare = without_boilerplate(texts, labels).texts
    labelled = [f"{label} {template_key(text)}" for label, text in zip(labels.tolist(), bare, strict=True)]
    keys = np.array(_templates(_respelled(labelled)), dtype=object)
    groups = np.empty(len(texts), dtype=np.int64)
    count = 0
    for category in range(int(labels.max(initial=-1)) + 1):
        rows = np.flatnonzero(labels == category)
        names, own = np.unique(keys[rows], return_inverse=True)
        if vectors is not None and len(names) > 1 and len(rows) <= MOST_COMPARED:
            own = _joined(names, _means(vectors[rows], own))[own]
        groups[rows] = count + own
        count += int(own.max(initial=-1)) + 1
    # In the order of their first examples: where nothing has a twin, the groups are the examples.
    _, first, own = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first)), dtype=np.int64)[own]


def group_means(
    vectors: Matrix, labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[Matrix, NDArray[np.int64]]:
    """Return one unit row and one label for each group, in the order of the groups' numbers."""
    _, first, own = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) == len(vectors):
        return vectors[first], labels[first]
    return _means(vectors, own), labels[first]


def _means(vectors: Matrix, own: NDArray[np.int64]) -> Matrix:
    sums = np.zeros((int(own.max()) + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, own, vectors)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(norms == 0, 1, norms), dtype=np.float32)


def _respelled(keys: list[str]) -> list[str]:
    """Replace texts with a word that no other text has, and another text has in nearly the same letters, by that one.

    Keys begin with their category's number.
    """
    distinct = {key: key.split(" ") for key in dict.fromkeys(keys)}
    counts = Counter(chain.from_iterable(dict.fromkeys(words) for words in distinct.values()))
    frames: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key, words in distinct.items():
        for place in range(1, len(words) if len(words) <= LONGEST_TEMPLATE else 1):
            if len(words) > FEWEST_LITERALS or len(words[place]) >= LONG_WORD:
                frames[" ".join([*words[:place], _SLOT, *words[place + 1 :]])].append((words[place], key))
    own: dict[str, str] = {}
    for found in frames.values():
        for (one, key), (other, twin) in combinations(found if len(found) <= MOST_SPELLINGS else (), 2):
            if min(counts[one], counts[other]) == 1 and _is_misspelt(one, other):
                own[_root(own, key)] = _root(own, twin)
    return [_root(own, key) for key in keys]


def _root(own: dict[str, str], key: str) -> str:
    while (above := own.get(key, key)) != key:
        key = above
    return key


def _is_misspelt(one: str, other: str) -> bool:
    """Tell whether one letter was changed, left out or put in, or two in a row changed places."""
    if abs(len(one) - len(other)) > 1 or _SLOT in (one, other):
        return False
    short, long = sorted((one, other), key=len)
    start = next((place for place, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return swapped or short[start + 1 :] == long[start + 1 :]


def _templates(keys: list[str]) -> list[str]:
    """Replace runs of words in which several texts of a category differ, and nowhere else, by slots."""
    for _ in range(ROUNDS):
        # Each distinct key has each of its frames once, so that a frame's count is that of the keys that share it.
        frames = {key: list(_frames(key)) for key in dict.fromkeys(keys)}
        counts = Counter(chain.from_iterable(frames.values()))
        best = {key: max(((counts[frame], frame) for frame in found), default=(0, "")) for key, found in frames.items()}
        if all(count < TEMPLATE_FROM for count, _ in best.values()):
            break
        keys = [best[key][1] if best[key][0] >= TEMPLATE_FROM else key for key in keys]
    return keys


def _frames(key: str) -> Iterator[str]:
    label, *words = key.split(" ")
    if len(words) > LONGEST_TEMPLATE:
        return
    literal = [word != _SLOT for word in words]
    spare = sum(literal) - max(FEWEST_LITERALS, LITERAL * len(words))
    before = list(accumulate(words, lambda start, word: f"{start} {word}", initial=label))
    after = list(accumulate(reversed(words), lambda end, word: f" {word}{end}", initial=""))
    for start in range(len(words)):
        cut = 0
        for end in range(start + 1, min(start + LONGEST_SLOT, len(words)) + 1):
            cut += literal[end - 1]
            if cut > spare:
                break
            yield f"{before[start]} {_SLOT}{after[len(words) - end]}"


def _joined(names: NDArray[np.object_], vectors: Matrix) -> NDArray[np.int64]:
    """Join rows by complete linkage: each row of a group is a twin of each other; ``(rows,)`` group numbers from 0."""
    links = _links(names, vectors)
    groups: list[list[int]] = []
    of: dict[int, int] = {}
    for row in range(len(names)):
        known = links[row]
        near: dict[int, int] = defaultdict(int)
        for other in known:
            if other in of:
                near[of[other]] += 1
        whole = [group for group, count in near.items() if count == len(groups[group])]
        place = max(whole, key=lambda group: (len(groups[group]), -group)) if whole else len(groups)
        if not whole:
            groups.append([])
        groups[place].append(row)
        of[row] = place
    return np.array([of[row] for row in range(len(names))], dtype=np.int64)


def _links(names: NDArray[np.object_], vectors: Matrix) -> list[set[int]]:
    words = [frozenset(name.split(" ")[1:]) for name in names]
    links: list[set[int]] = [set() for _ in words]
    block = max(1, 4_000_000 // len(words))
    for start in range(0, len(words), block):
        cosines = vectors[start : start + block] @ vectors.T
        for i, j in np.argwhere(cosines >= NEAR).tolist():
            row = start + i
            if row < j and (cosines[i, j] >= SAME or _jaccard(words[row], words[j]) >= COMMON_WORDS):
                links[row].add(j)
                links[j].add(row)
    numbers = {name.split(" ", 1)[1]: row for row, name in enumerate(names)}
    for row, name in enumerate(names):
        for inner in _inner_runs(name.split(" ")[1:]):
            other = numbers.get(inner)
            if other is not None and other != row and float(vectors[row] @ vectors[other]) >= CONTAINED:
                links[row].add(other)
                links[other].add(row)
    return links


def _inner_runs(words: list[str]) -> Iterator[str]:
    """Runs of a text's words that may be the text itself without what was put before or after it."""
    if len(words) > LONGEST_TEMPLATE:
        return
    fewest = max(FEWEST_LITERALS, math.ceil(CONTAINED_WORDS * len(words)))
    for start in range(len(words) - fewest + 1):
        for end in range(start + fewest, len(words) + 1):
            yield " ".join(words[start:end])


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))

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
from dataclasses import dataclass
from itertools import accumulate, chain, combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from semroute.data.examples import Category, Finding, shortened
from semroute.types import Matrix

# Boilerplate around examples: what many of them have at one end, such as ticket numbers, signatures and bullets.
#
# It says nothing of what is asked, but it moves vectors: examples that share it are near each other and far from
# queries
# without it, so that thresholds would lie where no plain query comes.

SHARE = 0.2
WORDS_SHARE = 0.5
FEWEST = 4
"""Share of the examples, and their number at the least, that have in common what is taken for boilerplate. More must
have it where no punctuation parts it from the rest, as after "how do I"."""

LONGEST = 20
"""Tokens of the longest boilerplate."""

SEEN = 160
"""Characters at each end that are looked at."""

MOST_NAMES = 3
"""Words in a row that may be different in each example, such as a name."""

FEWEST_LEFT = 2
"""Words that must be left."""

_TOKENS = re.compile(r"\w+(?:['\u2019]\w+)*|\n|[^\w\s]")
_WEAK = frozenset(".,;?!'\"\u2019\u201c\u201d-\u2026")
"""Punctuation of any sentence, which alone shows no boilerplate."""

_BRACKETS = frozenset(("Ps", "Pe", "Pi", "Pf", "Sm", "So", "Po"))
"""Unicode's categories of what may touch the text: brackets, quotation marks, "<", emoji, bullets."""

_NAME, _NUMBER = "\0name", "\0number"


@dataclass(frozen=True, slots=True)
class Bare:
    """Examples without their boilerplate.

    Attributes:
        texts: ``n`` texts without what is boilerplate in their category.
        rows: of the examples whose boilerplate means nothing: it has no words of its own, or is in most categories.
    """

    texts: list[str]
    rows: NDArray[np.int64]


def without_boilerplate(texts: Sequence[str], labels: NDArray[np.int64]) -> Bare:
    """Return examples without what many of their category begin or end with.

    Args:
        texts: the examples.
        labels: ``(n,)`` category numbers from 0.
    """
    bare, own = list(texts), np.ones(len(texts), np.bool_)
    categories = [np.flatnonzero(labels == category).tolist() for category in np.unique(labels).tolist()]
    for at_end in (False, True):
        found = [_stripped([bare[row] for row in rows], rows, at_end) for rows in categories]
        owners = Counter(shape for some in found for shape in {shape for _, shape, _ in some})
        for row, shape, rest in chain.from_iterable(found):
            is_usual = owners[shape] > 1 and 2 * owners[shape] >= len(categories)
            if is_usual or _is_parted(shape):
                bare[row] = rest
                # Words that only one category has around its examples tell it from the others.
                own[row] &= is_usual or not _has_words(shape)
    changed = np.array([one != other for one, other in zip(texts, bare, strict=True)], np.bool_)
    return Bare(bare, np.flatnonzero(changed & own))


def _stripped(texts: Sequence[str], rows: Sequence[int], at_end: bool) -> list[tuple[int, tuple[str, ...], str]]:
    """Return row, boilerplate's shape and the rest, of the texts that have one at this end."""
    tokens = [_tokens(text, at_end) for text in texts]
    counts = Counter(word for some in tokens for word in {text.casefold() for text, _, _ in some})
    least = max(FEWEST, SHARE * len(texts))
    shapes = [[_shape(text, counts, least) for text, _, _ in some[: LONGEST + 1]] for some in tokens]
    longest: dict[int, int] = {}
    groups = [list(range(len(texts)))]
    for length in range(1, LONGEST + 1):
        parts: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for group in groups:
            for number in group:
                if len(shapes[number]) > length:
                    parts[tuple(shapes[number][:length])].append(number)
        groups = [group for group in parts.values() if len(group) >= least]
        for shape, group in parts.items():
            if len(group) >= least and _is_boilerplate(shape, len(group) / len(texts)):
                longest.update(dict.fromkeys(group, length))
    found = []
    for number, length in longest.items():
        inner, start, end = tokens[number][length - 1]
        rest = texts[number][:start] if at_end else texts[number][end:]
        beside = rest[-1:] if at_end else rest[:1]
        apart = inner == "\n" or beside.isspace() or unicodedata.category(inner[0]) in _BRACKETS
        if apart and len(re.findall(r"\w+", rest)) >= FEWEST_LEFT:
            found.append((rows[number], tuple(shapes[number][:length]), rest.strip()))
    return found


def _tokens(text: str, at_end: bool) -> list[tuple[str, int, int]]:
    """Return the tokens from one end inwards, with their places; blank lines at the ends are none."""
    shift = max(0, len(text.rstrip()) - SEEN) if at_end else 0
    seen = text[shift:].rstrip() if at_end else text[:SEEN]
    found = [(token[0], token.start() + shift, token.end() + shift) for token in _TOKENS.finditer(seen)]
    return found[::-1] if at_end else found


def _shape(token: str, counts: Counter[str], least: float) -> str:
    if any(character.isdigit() for character in token):
        return _NUMBER
    folded = token.casefold()
    return folded if counts[folded] >= least or not token[0].isalpha() else _NAME


def _is_boilerplate(shape: tuple[str, ...], share: float) -> bool:
    inner, names = shape[-1], shape.count(_NAME)
    words = [token for token in shape if token[0].isalpha()]
    strong = [token for token in shape if not token[0].isalpha() and token not in _WEAK and token != _NAME]
    if inner == _NAME or names > MOST_NAMES:
        return False
    if inner[0].isalpha():
        return not names and share >= WORDS_SHARE and len(words) > 1
    if names and not words and strong == [_NUMBER] * len(strong):
        return False
    return bool(words or strong)


def _has_words(shape: tuple[str, ...]) -> bool:
    return any(token[0].isalpha() for token in shape)


def _is_parted(shape: Sequence[str]) -> bool:
    """Tell whether punctuation that no plain sentence has parts it from the rest."""
    marks = [token for token in shape if not token[0].isalpha() and token not in (_NUMBER, _NAME)]
    return shape[-1] in marks and not _WEAK.issuperset(marks)


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


# Findings on the examples of a build that only their groups and vectors show.

TWINS_FROM = 0.05
"""Share of a category's examples that near twins must be beyond the first of each, to be worth a word."""

SAME_VECTOR = 0.9995
"""Cosine from which an encoder sees no difference; rounding alone takes less."""

NAMED = 3


def example_findings(
    categories: Sequence[Category], labels: NDArray[np.int64], groups: NDArray[np.int64], vectors: Matrix
) -> list[Finding]:
    """Name categories with near twins, and examples that the encoder cannot tell apart.

    Args:
        categories: in the order of their numbers.
        labels: ``(n,)`` category numbers of the examples, which follow the categories' order.
        groups: ``(n,)`` their groups (:func:`~semroute.learn.near_twins.near_twins`).
        vectors: ``(n, d)`` unit rows.
    """
    texts = [text for category in categories for text in category.examples]
    indistinct = _indistinct(texts, labels, vectors)
    named = [row for rows in indistinct for row in rows.tolist()]
    twins = _twins(categories, texts, labels, groups, np.isin(np.arange(len(texts)), named))
    return [*twins, *(_told(rows, categories, texts, labels) for rows in indistinct)]


def _twins(
    categories: Sequence[Category],
    texts: Sequence[str],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    named: NDArray[np.bool_],
) -> list[Finding]:
    sizes = np.bincount(groups)
    found = []
    for number, category in enumerate(categories):
        rows = np.flatnonzero((labels == number) & ~named)
        spare = len(rows) - len(np.unique(groups[rows]))
        if spare == 0 or spare < TWINS_FROM * len(rows):
            continue
        largest = rows[sizes[groups[rows]].argmax()]
        alike = " and ".join(shortened(texts[row]) for row in rows[groups[rows] == groups[largest]][:2])
        message = (
            f"{spare} of {len(rows)} examples say nearly the same as another one, such as {alike}; what says nearly "
            "the same counts once; put it in other words"
        )
        found.append(Finding(message, category.source))
    return found


def _indistinct(texts: Sequence[str], labels: NDArray[np.int64], vectors: Matrix) -> list[NDArray[np.int64]]:
    """Sets of rows that are different texts with one vector, in several categories or at least three in one."""
    found = []
    for rows in _same_vectors(vectors):
        different = len({_plain(texts[row]) for row in rows})
        if different >= NAMED or (different > 1 and len(np.unique(labels[rows])) > 1):
            found.append(rows)
    return found


def _told(
    rows: NDArray[np.int64], categories: Sequence[Category], texts: Sequence[str], labels: NDArray[np.int64]
) -> Finding:
    owners = list(dict.fromkeys(labels[rows].tolist()))
    # One of each category first, for that is where it matters.
    first = [int(rows[labels[rows] == owner][0]) for owner in owners]
    named = ", ".join(shortened(texts[row]) for row in [*first, *(r for r in rows.tolist() if r not in first)][:NAMED])
    names = " and ".join(f'"{categories[number].name}"' for number in owners[:NAMED])
    message = (
        f"the encoder cannot tell {len(rows)} examples of {names} apart, such as {named}: to it they are the "
        "same text; use words that it knows, a rule on keywords, or an encoder that knows the language"
    )
    return Finding(message, categories[owners[0]].source)


def _same_vectors(vectors: Matrix) -> list[NDArray[np.int64]]:
    """Rows of equal vectors, each set in ascending order; found by their order along a fixed direction."""
    direction = np.random.default_rng(0).standard_normal(vectors.shape[1], dtype=np.float32)
    along = vectors @ (direction / np.linalg.norm(direction))
    order = np.argsort(along, kind="stable")
    # Vectors of that cosine are no further apart than this, and so are their places along any direction.
    reach = (2 - 2 * SAME_VECTOR) ** 0.5
    seen = np.zeros(len(vectors), dtype=np.bool_)
    ends = np.searchsorted(along[order], along[order] + reach, side="right")
    sets = []
    for place, row in enumerate(order.tolist()):
        if seen[row]:
            continue
        near = order[place : ends[place]]
        same = near[(vectors[near] @ vectors[row] >= SAME_VECTOR) & ~seen[near]]
        seen[same] = True
        if len(same) > 1:
            sets.append(np.sort(same))
    return sorted(sets, key=lambda rows: int(rows[0]))


def _plain(text: str) -> str:
    """Return a text as most encoders read it: without case, accents, punctuation and courtesy."""
    apart = unicodedata.normalize("NFKD", template_key(text))
    return "".join(character for character in apart if not unicodedata.combining(character))

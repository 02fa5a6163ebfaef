"""Group near-duplicate examples: spellings, templates and paraphrases.

Spellings, filled templates, and paraphrases with nearly the same vector are one group. A fold holds a group whole, and
a group weighs like one example. Otherwise an example is validated by its own near-duplicate: validation is perfect, and
thresholds are too high for any new query.
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

# Boilerplate around examples: text that many of them share at one end, such as ticket numbers, signatures and bullets.
#
# It has no meaning for the query, but it moves vectors: examples that share it are near each other and far from queries
# without it, so that thresholds would be too high for plain queries.

SHARE = 0.2
WORDS_SHARE = 0.5
MIN_SHARING = 4
"""Minimum share of the examples, and minimum number, that share boilerplate. A larger share is needed where no
punctuation separates it from the rest, as after "how do I"."""

MAX_BOILERPLATE = 20
"""Maximum tokens of boilerplate."""

SEEN = 160
"""Characters at each end that are examined."""

MAX_NAMES = 3
"""Maximum consecutive words that may differ in each example, such as a name."""

MIN_WORDS_LEFT = 2
"""Minimum words that must be left."""

_TOKENS = re.compile(r"\w+(?:['\u2019]\w+)*|\n|[^\w\s]")
_WEAK = frozenset(".,;?!'\"\u2019\u201c\u201d-\u2026")
"""Punctuation of ordinary sentences, which alone is no evidence of boilerplate."""

_BRACKETS = frozenset(("Ps", "Pe", "Pi", "Pf", "Sm", "So", "Po"))
"""Unicode categories of characters that may touch the text: brackets, quotation marks, "<", emoji, bullets."""

_NAME, _NUMBER = "\0name", "\0number"


@dataclass(frozen=True, slots=True)
class Bare:
    """Examples without their boilerplate.

    Attributes:
        texts: ``n`` texts without the boilerplate of their category.
        rows: of the examples whose boilerplate is meaningless: it has no words, or occurs in most categories.
    """

    texts: list[str]
    rows: NDArray[np.int64]


def without_boilerplate(texts: Sequence[str], labels: NDArray[np.int64]) -> Bare:
    """Remove text that many examples of a category begin or end with.

    Args:
        texts: the examples.
        labels: ``(n,)`` category numbers from 0.
    """
    stripped, is_own = list(texts), np.ones(len(texts), np.bool_)
    categories = [np.flatnonzero(labels == category).tolist() for category in np.unique(labels).tolist()]
    for at_end in (False, True):
        boilerplate_of = [_stripped([stripped[row] for row in rows], rows, at_end) for rows in categories]
        category_count = Counter(
            shape for rows_of_category in boilerplate_of for shape in {shape for _, shape, _ in rows_of_category}
        )
        for row, shape, rest in chain.from_iterable(boilerplate_of):
            is_usual = category_count[shape] > 1 and 2 * category_count[shape] >= len(categories)
            if is_usual or _is_parted(shape):
                stripped[row] = rest
                # Words around the examples of only one category distinguish it from the others, so they are kept.
                is_own[row] &= is_usual or not _has_words(shape)
    changed = np.array([before != after for before, after in zip(texts, stripped, strict=True)], np.bool_)
    return Bare(stripped, np.flatnonzero(changed & is_own))


def _stripped(texts: Sequence[str], rows: Sequence[int], at_end: bool) -> list[tuple[int, tuple[str, ...], str]]:
    """Return row, boilerplate shape and rest of texts with boilerplate.

    Only boilerplate at this end counts.
    """
    tokens = [_tokens(text, at_end) for text in texts]
    counts = Counter(word for row_tokens in tokens for word in {text.casefold() for text, _, _ in row_tokens})
    min_count = max(MIN_SHARING, SHARE * len(texts))
    shapes = [
        [_shape(text, counts, min_count) for text, _, _ in row_tokens[: MAX_BOILERPLATE + 1]] for row_tokens in tokens
    ]
    longest: dict[int, int] = {}
    groups = [list(range(len(texts)))]
    for length in range(1, MAX_BOILERPLATE + 1):
        parts: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for group in groups:
            for number in group:
                if len(shapes[number]) > length:
                    parts[tuple(shapes[number][:length])].append(number)
        groups = [group for group in parts.values() if len(group) >= min_count]
        for shape, group in parts.items():
            if len(group) >= min_count and _is_boilerplate(shape, len(group) / len(texts)):
                longest.update(dict.fromkeys(group, length))
    boilerplate = []
    for number, length in longest.items():
        inner, start, end = tokens[number][length - 1]
        rest = texts[number][:start] if at_end else texts[number][end:]
        neighbour = rest[-1:] if at_end else rest[:1]
        is_separated = inner == "\n" or neighbour.isspace() or unicodedata.category(inner[0]) in _BRACKETS
        if is_separated and len(re.findall(r"\w+", rest)) >= MIN_WORDS_LEFT:
            boilerplate.append((rows[number], tuple(shapes[number][:length]), rest.strip()))
    return boilerplate


def _tokens(text: str, at_end: bool) -> list[tuple[str, int, int]]:
    """Return the tokens from one end inwards, with their positions.

    Blank lines at the ends are no tokens.
    """
    shift = max(0, len(text.rstrip()) - SEEN) if at_end else 0
    window = text[shift:].rstrip() if at_end else text[:SEEN]
    tokens = [(token[0], token.start() + shift, token.end() + shift) for token in _TOKENS.finditer(window)]
    return tokens[::-1] if at_end else tokens


def _shape(token: str, counts: Counter[str], min_count: float) -> str:
    if any(character.isdigit() for character in token):
        return _NUMBER
    folded = token.casefold()
    return folded if counts[folded] >= min_count or not token[0].isalpha() else _NAME


def _is_boilerplate(shape: tuple[str, ...], share: float) -> bool:
    inner, names = shape[-1], shape.count(_NAME)
    words = [token for token in shape if token[0].isalpha()]
    strong = [token for token in shape if not token[0].isalpha() and token not in _WEAK and token != _NAME]
    if inner == _NAME or names > MAX_NAMES:
        return False
    if inner[0].isalpha():
        return not names and share >= WORDS_SHARE and len(words) > 1
    if names and not words and strong == [_NUMBER] * len(strong):
        return False
    return bool(words or strong)


def _has_words(shape: tuple[str, ...]) -> bool:
    return any(token[0].isalpha() for token in shape)


def _is_parted(shape: Sequence[str]) -> bool:
    """Return True if punctuation unusual in sentences separates it."""
    punctuation = [token for token in shape if not token[0].isalpha() and token not in (_NUMBER, _NAME)]
    return shape[-1] in punctuation and not _WEAK.issuperset(punctuation)


SAME = 0.97
"""Cosine from which two texts are near-duplicates, whatever their words."""

NEAR = 0.9
"""Cosine from which two texts with nearly the same words are near-duplicates."""

COMMON_WORDS = 0.75
"""Jaccard similarity of the word sets of such two texts."""

CONTAINED = 0.7
CONTAINED_WORDS = 0.4
"""Cosine, and share of the longer one's words, from which a text and its extension by words around it are twins."""

TEMPLATE_FROM = 3
"""Number of texts equal but for one run of words from which the run is the slot of a template."""

LITERAL = 0.7
"""Share of its words that a template must keep when a slot is cut out, and their minimum number:"""
MIN_LITERALS = 3
MAX_SLOT = 3
MAX_TEMPLATE = 40
MAX_MASKED = 2000
ROUNDS = 4
LONG_WORD = 5
"""Letters from which a word may be misspelt in a text of fewer words than a template must keep."""
MAX_SPELLINGS = 32
"""Number of texts equal but for one word beyond which the word is a slot, not a spelling."""
MAX_COMPARED = 20_000
"""Examples of one category beyond which vectors are no longer compared, which would take minutes."""

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
    """Return the template of ``text``, equal for trivial variants.

    Compatibility characters, case, punctuation and white space are normalised; numbers, identifiers, links and quoted
    words become a slot; words of courtesy at either end are removed.
    """
    normalized = text = unicodedata.normalize("NFKC", text).casefold()
    for pattern in (_QUOTED, _LINKS, _NUMBERS) if len(text) <= MAX_MASKED else ():
        masked = pattern.sub(f" {_SLOT} ", text)
        # A text that is quoted as a whole is not a slot.
        text = masked if any(character.isalnum() for character in masked) else text
    # Apostrophes join ("what's"), other punctuation separates; symbols stay, as an emoji may be the whole text.
    text = text.replace("'", "").replace("\u2019", "")
    text = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in text)
    words = [word for word, before in pairwise([*text.split(), ""]) if word != before]  # "my my order"
    start, end = 0, len(words)
    while start < end and words[start] in _COURTESY:
        start += 1
    while end > start and words[end - 1] in _COURTESY:
        end -= 1
    return " ".join(words[start:end] or words) or " ".join(normalized.split())


def near_twins(texts: Sequence[str], labels: NDArray[np.int64], vectors: Matrix | None = None) -> NDArray[np.int64]:
    """Group near-duplicate examples.

    Args:
        texts: the examples.
        labels: ``(n,)`` category numbers from 0.
        vectors: ``(n, d)`` unit rows; None compares the texts alone.

    Returns:
        ``(n,)`` group numbers from 0, each group within one category.
    """
    stripped = without_boilerplate(texts, labels).texts
    labelled = [f"{label} {template_key(text)}" for label, text in zip(labels.tolist(), stripped, strict=True)]
    keys = np.array(_templates(_respelled(labelled)), dtype=object)
    groups = np.empty(len(texts), dtype=np.int64)
    count = 0
    for category in range(int(labels.max(initial=-1)) + 1):
        rows = np.flatnonzero(labels == category)
        names, group_of_row = np.unique(keys[rows], return_inverse=True)
        if vectors is not None and len(names) > 1 and len(rows) <= MAX_COMPARED:
            group_of_row = _merge_linked(names, _means(vectors[rows], group_of_row))[group_of_row]
        groups[rows] = count + group_of_row
        count += int(group_of_row.max(initial=-1)) + 1
    # In the order of their first examples: without near-duplicates, the groups are the examples.
    _, first, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first)), dtype=np.int64)[group_of_row]


def group_means(
    vectors: Matrix, labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[Matrix, NDArray[np.int64]]:
    """Return one unit row and one label for each group.

    They are in the order of the groups' numbers.
    """
    _, first, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) == len(vectors):
        return vectors[first], labels[first]
    return _means(vectors, group_of_row), labels[first]


def _means(vectors: Matrix, group_of_row: NDArray[np.int64]) -> Matrix:
    sums = np.zeros((int(group_of_row.max()) + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, group_of_row, vectors)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(norms == 0, 1, norms), dtype=np.float32)


def _respelled(keys: list[str]) -> list[str]:
    """Replace keys with a unique misspelt word by the correctly spelt key.

    Such a word is in no other text, and another text has it in nearly the same letters. Keys begin with their
    category's number.
    """
    distinct = {key: key.split(" ") for key in dict.fromkeys(keys)}
    counts = Counter(chain.from_iterable(dict.fromkeys(words) for words in distinct.values()))
    frames: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key, words in distinct.items():
        for position in range(1, len(words) if len(words) <= MAX_TEMPLATE else 1):
            if len(words) > MIN_LITERALS or len(words[position]) >= LONG_WORD:
                frames[" ".join([*words[:position], _SLOT, *words[position + 1 :]])].append((words[position], key))
    parent: dict[str, str] = {}
    for spellings in frames.values():
        for (first, key), (second, twin) in combinations(spellings if len(spellings) <= MAX_SPELLINGS else (), 2):
            if min(counts[first], counts[second]) == 1 and _is_misspelt(first, second):
                parent[_root(parent, key)] = _root(parent, twin)
    return [_root(parent, key) for key in keys]


def _root(parent: dict[str, str], key: str) -> str:
    while (up := parent.get(key, key)) != key:
        key = up
    return key


def _is_misspelt(first: str, second: str) -> bool:
    """Return True if two words differ by one edit.

    An edit is a letter changed, left out or put in, or two adjacent letters swapped.
    """
    if abs(len(first) - len(second)) > 1 or _SLOT in (first, second):
        return False
    short, long = sorted((first, second), key=len)
    start = next(
        (position for position, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), len(short)
    )
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    is_swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return is_swapped or short[start + 1 :] == long[start + 1 :]


def _templates(keys: list[str]) -> list[str]:
    """Replace runs of words that vary between texts of a category by slots.

    The texts must differ nowhere else.
    """
    for _ in range(ROUNDS):
        # Each distinct key has each of its frames once, so a frame's count is the number of keys that share it.
        frames = {key: list(_frames(key)) for key in dict.fromkeys(keys)}
        counts = Counter(chain.from_iterable(frames.values()))
        best = {
            key: max(((counts[frame], frame) for frame in frames_of_key), default=(0, ""))
            for key, frames_of_key in frames.items()
        }
        if all(count < TEMPLATE_FROM for count, _ in best.values()):
            break
        keys = [best[key][1] if best[key][0] >= TEMPLATE_FROM else key for key in keys]
    return keys


def _frames(key: str) -> Iterator[str]:
    label, *words = key.split(" ")
    if len(words) > MAX_TEMPLATE:
        return
    is_literal = [word != _SLOT for word in words]
    max_slot = sum(is_literal) - max(MIN_LITERALS, LITERAL * len(words))
    prefixes = list(accumulate(words, lambda start, word: f"{start} {word}", initial=label))
    suffixes = list(accumulate(reversed(words), lambda end, word: f" {word}{end}", initial=""))
    for start in range(len(words)):
        cut = 0
        for end in range(start + 1, min(start + MAX_SLOT, len(words)) + 1):
            cut += is_literal[end - 1]
            if cut > max_slot:
                break
            yield f"{prefixes[start]} {_SLOT}{suffixes[len(words) - end]}"


def _merge_linked(names: NDArray[np.object_], vectors: Matrix) -> NDArray[np.int64]:
    """Cluster rows by complete linkage into ``(rows,)`` group numbers from 0.

    Each row of a group is a twin of each other. Rows are taken in their order, each into the largest group whose rows
    are all its twins, of equal ones the first. Links are those of one block of rows at a time: a cloud of texts that
    are all near each other has as many as pairs.
    """
    group_of = np.zeros(len(names), np.int64)
    sizes = np.zeros(len(names), np.int64)
    groups = 0
    for row, linked in _links(names, vectors):
        counts = np.bincount(group_of[linked], minlength=groups)
        complete = np.flatnonzero((counts == sizes[:groups]) & (counts > 0))
        chosen = int(complete[sizes[complete].argmax()]) if len(complete) else groups
        groups = max(groups, chosen + 1)
        sizes[chosen] += 1
        group_of[row] = chosen
    return group_of


_CELLS = 4_000_000
_BYTES = 32_000_000
_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def _links(names: NDArray[np.object_], vectors: Matrix) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield every row with those before it that are its twins."""
    words = [name.split(" ")[1:] for name in names]
    bits = _bits(words)
    contained = _contained(names, vectors)
    block = max(1, _CELLS // len(words))
    for start in range(0, len(words), block):
        stop = min(start + block, len(words))
        cosines = vectors[start:stop] @ vectors[:stop].T
        cosines[np.arange(stop)[None, :] >= np.arange(start, stop)[:, None]] = -1.0
        links = cosines >= SAME
        rows, columns = np.nonzero((cosines >= NEAR) & ~links)
        links[rows, columns] = _jaccards(bits, rows + start, columns) >= COMMON_WORDS
        for row in range(start, stop):
            linked = np.flatnonzero(links[row - start])
            yield row, np.union1d(linked, contained[row]).astype(np.int64) if row in contained else linked


def _contained(names: NDArray[np.object_], vectors: Matrix) -> dict[int, list[int]]:
    """Return the earlier twin, by the later row, where one holds the other.

    It holds its whole text.
    """
    numbers = {name.split(" ", 1)[1]: row for row, name in enumerate(names)}
    pairs: dict[int, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        for inner in _inner_runs(name.split(" ")[1:]):
            other = numbers.get(inner)
            if other is not None and other != row and float(vectors[row] @ vectors[other]) >= CONTAINED:
                pairs[max(row, other)].append(min(row, other))
    return pairs


def _bits(words: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
    """Return ``(n, bytes)`` sets of words, one bit for each word."""
    numbers: dict[str, int] = {}
    columns = [[numbers.setdefault(word, len(numbers)) for word in row] for row in words]
    bits = np.zeros((len(words), len(numbers) // 8 + 1), np.uint8)
    for row, own in enumerate(columns):
        for column in own:
            bits[row, column >> 3] |= 1 << (column & 7)
    return bits


def _jaccards(bits: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Jaccard index of the words of each pair of rows."""
    sizes = _ONES[bits].sum(axis=1, dtype=np.int64)
    found = np.empty(len(first))
    step = max(1, _BYTES // bits.shape[1])
    for start in range(0, len(first), step):
        one, other = first[start : start + step], second[start : start + step]
        both = _ONES[bits[one] & bits[other]].sum(axis=1, dtype=np.int64)
        found[start : start + step] = both / np.maximum(1, sizes[one] + sizes[other] - both)
    return found


def _inner_runs(words: list[str]) -> Iterator[str]:
    """Yield runs of words that may be the text without words around it."""
    if len(words) > MAX_TEMPLATE:
        return
    fewest = max(MIN_LITERALS, math.ceil(CONTAINED_WORDS * len(words)))
    for start in range(len(words) - fewest + 1):
        for end in range(start + fewest, len(words) + 1):
            yield " ".join(words[start:end])


# Findings on the examples of a build that need their groups and vectors.

TWINS_FROM = 0.05
"""Share of near-duplicates, beyond the first of each group, from which a category is reported."""

SAME_VECTOR = 0.9995
"""Cosine from which an encoder does not distinguish two texts; rounding alone costs less."""

NAMED = 3


def example_findings(
    categories: Sequence[Category], labels: NDArray[np.int64], groups: NDArray[np.int64], vectors: Matrix
) -> list[Finding]:
    """Report categories with near-duplicates, and indistinguishable examples.

    Args:
        categories: in the order of their numbers.
        labels: ``(n,)`` category numbers of the examples, which follow the categories' order.
        groups: ``(n,)`` their groups (:func:`~semroute.learn.near_twins.near_twins`).
        vectors: ``(n, d)`` unit rows.
    """
    texts = [text for category in categories for text in category.examples]
    indistinct = _indistinct(texts, labels, vectors)
    reported = [row for rows in indistinct for row in rows.tolist()]
    twins = _twins(categories, texts, labels, groups, np.isin(np.arange(len(texts)), reported))
    return [*twins, *(_quote_examples(rows, categories, texts, labels) for rows in indistinct)]


def _twins(
    categories: Sequence[Category],
    texts: Sequence[str],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    is_reported: NDArray[np.bool_],
) -> list[Finding]:
    sizes = np.bincount(groups)
    findings = []
    for number, category in enumerate(categories):
        rows = np.flatnonzero((labels == number) & ~is_reported)
        duplicates = len(rows) - len(np.unique(groups[rows]))
        if duplicates == 0 or duplicates < TWINS_FROM * len(rows):
            continue
        largest = rows[sizes[groups[rows]].argmax()]
        quoted = " and ".join(shortened(texts[row]) for row in rows[groups[rows] == groups[largest]][:2])
        message = (
            f"{duplicates} of {len(rows)} examples are near-duplicates, such as {quoted}; near-duplicates count as one "
            "example; reword them"
        )
        findings.append(Finding(message, category.source))
    return findings


def _indistinct(texts: Sequence[str], labels: NDArray[np.int64], vectors: Matrix) -> list[NDArray[np.int64]]:
    """Return sets of different texts with equal vectors.

    A set is reported if it spans several categories or has at least :data:`NAMED` texts.
    """
    findings = []
    for rows in _same_vectors(vectors):
        distinct = len({_plain(texts[row]) for row in rows})
        if distinct >= NAMED or (distinct > 1 and len(np.unique(labels[rows])) > 1):
            findings.append(rows)
    return findings


def _quote_examples(
    rows: NDArray[np.int64], categories: Sequence[Category], texts: Sequence[str], labels: NDArray[np.int64]
) -> Finding:
    involved = list(dict.fromkeys(labels[rows].tolist()))
    # One of each category first, as duplicates across categories do most harm.
    first = [int(rows[labels[rows] == category][0]) for category in involved]
    quoted = ", ".join(shortened(texts[row]) for row in [*first, *(r for r in rows.tolist() if r not in first)][:NAMED])
    names = " and ".join(f'"{categories[number].name}"' for number in involved[:NAMED])
    message = (
        f"the encoder cannot tell {len(rows)} examples of {names} apart, such as {quoted}: to it they are the "
        "same text; use words that it knows, a rule on keywords, or an encoder that knows the language"
    )
    return Finding(message, categories[involved[0]].source)


def _same_vectors(vectors: Matrix) -> list[NDArray[np.int64]]:
    """Return sets of rows of equal vectors, each in ascending order.

    They are found by sorting along a fixed direction.
    """
    direction = np.random.default_rng(0).standard_normal(vectors.shape[1], dtype=np.float32)
    projection = vectors @ (direction / np.linalg.norm(direction))
    order = np.argsort(projection, kind="stable")
    # Vectors of that cosine are no further apart than this, nor are their projections on any direction.
    max_distance = (2 - 2 * SAME_VECTOR) ** 0.5
    is_grouped = np.zeros(len(vectors), dtype=np.bool_)
    ends = np.searchsorted(projection[order], projection[order] + max_distance, side="right")
    sets = []
    for position, row in enumerate(order.tolist()):
        if is_grouped[row]:
            continue
        candidates = order[position : ends[position]]
        equal = candidates[(vectors[candidates] @ vectors[row] >= SAME_VECTOR) & ~is_grouped[candidates]]
        is_grouped[equal] = True
        if len(equal) > 1:
            sets.append(np.sort(equal))
    return sorted(sets, key=lambda rows: int(rows[0]))


def _plain(text: str) -> str:
    """Normalise a text as most encoders do.

    Case, accents, punctuation and courtesy are removed.
    """
    decomposed = unicodedata.normalize("NFKD", template_key(text))
    return "".join(character for character in decomposed if not unicodedata.combining(character))

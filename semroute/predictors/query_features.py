"""Inputs of the quality heads: text, vector and features of a query."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np

from semroute.text.code import looks_like_code
from semroute.text.signals import SIGNALS, Signals
from semroute.types import Matrix
from semroute.types.protocols import Indices

# Domain keywords.

WORDS = {
    "mathematics": """integer equation polynomial matrix vector triangle probability theorem derivative integral
        function prime algebra geometry arithmetic divisible ratio median graph variable group ring field finite""",
    "physics": """velocity acceleration force energy mass electric magnetic charge voltage circuit wave frequency
        momentum gravity quantum photon pressure temperature orbit planet star galaxy""",
    "chemistry": """molecule atom reaction acid base ion bond electron oxidation compound solution equilibrium enzyme
        catalyst alkene isotope molar""",
    "biology": """cell gene protein dna rna species evolution organism bacteria virus membrane chromosome photosynthesis
        ecosystem mutation allele hormone""",
    "medicine": """patient disease symptom diagnosis treatment clinical blood pain infection therapy drug dose surgery
        cancer year-old syndrome nerve artery muscle""",
    "law": """law legal court plaintiff defendant statute contract liability constitution jury crime criminal tort
        property evidence attorney""",
    "economics": """price demand supply market cost revenue profit inflation tax income interest bond stock budget
        monopoly gdp accounting asset audit""",
    "programming": """code python java javascript function class array string list loop algorithm database sql api
        compile bug test server software regex""",
    "history": """war empire king century revolution treaty president government political nation colonial soviet
        roman dynasty democracy policy state congress""",
    "mind": """behavior psychology therapist cognitive memory emotion personality learning theory child moral ethics
        philosophy argument belief culture society religion""",
}  # fmt: skip
"""Keywords of each domain, in the singular."""

DOMAINS = tuple(WORDS)

_HYPHENATED_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")


def _of_words() -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for number, words in enumerate(WORDS.values()):
        for word in words.split():
            for form in (word, f"{word}s"):
                positions.setdefault(form, []).append(number)
    return positions


_NUMBERS = _of_words()


def domain_counts(text: str) -> list[int]:
    """Count the keywords of each of :data:`DOMAINS` in a text.

    Case is ignored.
    """
    counts = [0] * len(DOMAINS)
    for word in _HYPHENATED_WORD.findall(text.lower()):
        for number in _NUMBERS.get(word, ()):
            counts[number] += 1
    return counts


# Rule-based counts of names, dates, amounts and acronyms.

_NAME = re.compile(r"(?<=[^\W_][,;]\s|[^\W_]{2}\s)[A-Z][^\W\d_]+(?:\s[A-Z][^\W\d_]+){0,3}")
_ACRONYM = re.compile(r"\b[A-Z]{2,6}s?\b")
_DATE = re.compile(
    r"\b(?:1\d{3}|20\d{2})\b"
    r"|\b(?:January|February|March|April|June|July|August|September|October|November|December)\b"
    r"|\b\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}\b"
)
_AMOUNT = re.compile(r"[$€£¥]\s?\d|\d\s?(?:%|percent\b|per cent\b|dollars?\b|euros?\b|pounds?\b)")


def names(text: str) -> int:
    """Count names: capitalised words, or runs of them, within a sentence.

    The first word of a sentence does not count. For Latin script, and English or similar languages.

    German nouns count as names, and a script without capitals has none.
    """
    return len(_NAME.findall(text))


def acronyms(text: str) -> int:
    """Count words of two to six capitals."""
    return len(_ACRONYM.findall(text))


def dates(text: str) -> int:
    """Count years from 1000 to 2099, names of months, and numeric dates."""
    return len(_DATE.findall(text))


def amounts(text: str) -> int:
    """Count sums of money and percentages."""
    return len(_AMOUNT.findall(text))


# Counts of mathematical and logical notation.

_SYMBOL = re.compile(r"[√∛∑∏∫∂∇∞≈≡≠≤≥±×÷∈∉⊂⊆∪∩∧∨¬⊃∀∃→↔⇒⇔∴²³⁰¹⁴-⁹₀-₉πθλμσΔΣΩ]")
_LATEX = re.compile(r"\\(?:frac|sqrt|sum|int|cdot|times|le|ge|neq|alpha|beta|pi|theta|left|right|begin|text|mathbb)\b")
_EQUATION = re.compile(r"[\w)\]]\s?=\s?[-\w($\\]")
_POWER = re.compile(r"[\w)]\s?\^\s?[\w({-]|\*\*\s?\d")
_FUNCTION = re.compile(r"\b(?:sin|cos|tan|log|ln|exp|lim|det|mod|gcd|lcm)\b|\b[fgh]\s?\(\s?[-\w]{1,4}\s?\)")
_UNIT = re.compile(
    r"\d\s?(?:km|cm|mm|kg|mg|mL|ml|Hz|kHz|MHz|eV|kJ|J|W|kW|V|N|Pa|mol|m/s|°C?|K|nm|hours?|minutes?|miles?)\b"
)


def symbols(text: str) -> int:
    """Count symbols of mathematics and logic.

    Greek letters of formulas, superscript and subscript digits, and LaTeX commands count too.
    """
    return len(_SYMBOL.findall(text)) + len(_LATEX.findall(text))


def formulas(text: str) -> int:
    """Count equations, powers and named functions."""
    return len(_EQUATION.findall(text)) + len(_POWER.findall(text)) + len(_FUNCTION.findall(text))


def units(text: str) -> int:
    """Count numbers with a unit of measurement."""
    return len(_UNIT.findall(text))


# The options of a multiple choice: ``A. one``, ``(b) two``, ``3) three``, each on a line of its own.

_OPTION = re.compile(r"^[ \t]{0,8}[(\[]?([A-Ja-j]|[1-9])[.):\]][ \t]+(\S[^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """Text split into the question and options of a multiple choice.

    Attributes:
        stem: text before the first option; the whole text where there are no options.
        options: their texts, in order.
    """

    stem: str
    options: tuple[str, ...]


def choice(text: str) -> MultipleChoice:
    """Split a text into the question and options of a multiple choice.

    Options are at least two lines with consecutive marks, from A, a or 1 on.

    A list that begins with another mark does not count; of several lists the last one does, since examples come before
    the question.
    """
    runs: list[list[re.Match[str]]] = []
    for match in _OPTION.finditer(text):
        letter = match[1]
        if letter in "Aa1":
            runs.append([match])
        elif runs and ord(letter) == ord(runs[-1][-1][1]) + 1:
            runs[-1].append(match)
    for run in reversed(runs):
        if len(run) >= 2:
            return MultipleChoice(text[: run[0].start()].strip(), tuple(option[2].strip() for option in run))
    return MultipleChoice(text.strip(), ())


# Kinds of question, by keywords.

KINDS = (
    "what", "which", "who", "when or where", "why", "how many", "how", "yes or no", "compute", "write", "explain",
    "choose", "complete",
)  # fmt: skip
"""Kinds of questions; a text may be of several, or of none."""

_PATTERNS = {
    "what": r"\bwhat\b",
    "which": r"\bwhich\b",
    "who": r"\bwho(?:m|se)?\b",
    "when or where": r"\b(?:when|where) (?:was|were|is|are|did|do|does|will|can|would)\b",
    "why": r"\bwhy\b",
    "how many": r"\bhow (?:many|much|long|far|old|often)\b",
    "how": r"\bhow (?:do|does|did|is|are|can|could|would|should|to)\b",
    "yes or no": r"(?:^|[.!?]\s)(?:is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b"
    r"[^.?!\n]{1,200}\?",
    "compute": r"\b(?:calculate|compute|find|determine|solve|evaluate|simplify|estimate|convert)\b",
    "write": r"\b(?:write|create|generate|implement|compose|draft|produce|make|rewrite|translate)\b",
    "explain": r"\b(?:explain|describe|summari[sz]e|compare|discuss|define|outline|list|name)\b",
    "choose": r"\b(?:best|most likely|following|except|not true|incorrect|correct|true|false)\b",
    "complete": r"_{3,}|\bfill in\b|[a-z,]\s*$",
}
_COMPILED = tuple(re.compile(_PATTERNS[kind], re.IGNORECASE) for kind in KINDS)


def question_kinds(text: str) -> tuple[bool, ...]:
    """Return a flag for each of :data:`KINDS` of question in ``text``.

    English only: all False in other languages.
    """
    return tuple(pattern.search(text) is not None for pattern in _COMPILED)


# Surface features of a query.
#
# On subjects that were not seen in training these are more informative than vectors (``scripts/bench_policy.py``): a
# vector encodes the subject of a query, which is new there, while the form of a query is the same everywhere.

MAX_CHARACTERS = 8_000
"""Number of analysed characters of a text, half at each end; the rest of a longer one counts in its length alone."""

UNKNOWN = -1.0
"""Value of the option features where there are no options."""

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
    """Return the features of a query by name, in a fixed order.

    Lengths and counts are ``log(1 + x)``.

    Grouped in :data:`BLOCKS`: length and form of the text, numbers and mathematics, code, entities, the options of a
    multiple choice, the kind of question, words of domains, and language: the share of letters beyond ASCII and of
    common English words.
    """
    window = (
        query if len(query) <= MAX_CHARACTERS else f"{query[: MAX_CHARACTERS // 2]} {query[-MAX_CHARACTERS // 2 :]}"
    )
    question = choice(window)
    words = [word.lower() for word in _WORD.findall(window)]
    values: dict[str, float] = {}
    for block in (_length, _form, _numbers, _options, _rest):
        values |= block(query, window, words, question)
    return MappingProxyType(values)


def feature_matrix(queries: Sequence[str]) -> Matrix:
    """Return ``(n, f)`` float32 features, columns as in :data:`FEATURES`."""
    rows = [list(features(query).values()) for query in queries]
    return np.array(rows, np.float32).reshape(len(queries), len(FEATURES))


def _length(query: str, window: str, words: list[str], question: MultipleChoice) -> dict[str, float]:
    return {
        "length: characters": math.log1p(len(query)),
        "length: words": math.log1p(len(words)),
        "length: sentences": math.log1p(len(_SENTENCE.findall(question.stem))),
        "length: lines": math.log1p(window.strip().count("\n")),
        "length: before the options": math.log1p(len(question.stem)),
    }


def _form(query: str, window: str, words: list[str], question: MultipleChoice) -> dict[str, float]:
    sizes = [len(word) for word in words] or [0]
    question_stem, size = question.stem.rstrip(), max(1, len(window))
    return {
        "form: mean word": sum(sizes) / len(sizes),
        "form: longest word": float(min(max(sizes), 30)),
        "form: different words": len(set(words)) / max(1, len(words)),
        "form: capitals": sum(map(str.isupper, window)) / size,
        "form: ends as a question": float(question_stem.endswith("?")),
        "form: ends as a statement": float(question_stem.endswith((".", ":", ","))),
        "form: gap to fill": float("___" in window),
        **{f"form: {name}": math.log1p(sum(map(window.count, characters))) for name, characters in _MARKS.items()},
        "language: beyond ASCII": sum(not character.isascii() for character in window) / size,
        "language: common English words": sum(word in _COMMON for word in words) / max(1, len(words)),
    }


def _numbers(query: str, window: str, words: list[str], question: MultipleChoice) -> dict[str, float]:
    return {
        "numbers: all": math.log1p(len(_NUMBER.findall(window))),
        "numbers: before the options": math.log1p(len(_NUMBER.findall(question.stem))),
        "numbers: share of digits": sum(map(str.isdigit, window)) / max(1, len(window)),
        "mathematics: symbols": math.log1p(symbols(window)),
        "mathematics: formulas": math.log1p(formulas(window)),
        "mathematics: units": math.log1p(units(window)),
        "code: looks like it": float(looks_like_code(window)),
        "entities: names": math.log1p(names(window)),
        "entities: acronyms": math.log1p(acronyms(window)),
        "entities: dates": math.log1p(dates(window)),
        "entities: amounts": math.log1p(amounts(window)),
    }


def _options(query: str, window: str, words: list[str], question: MultipleChoice) -> dict[str, float]:
    options = question.options
    if not options:
        return {name: 0.0 if name == "options: how many" else UNKNOWN for name in OPTIONS}
    count, sizes = len(options), [len(option) for option in options]
    mean = sum(sizes) / count
    sets = [frozenset(word.lower() for word in _WORD.findall(option)) for option in options]
    stem_words = frozenset(word.lower() for word in _WORD.findall(question.stem))
    pairs = [len(first & second) / max(1, len(first | second)) for first, second in combinations(sets[:8], 2)]
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
        sum(len(first & stem_words) / max(1, len(first)) for first in sets) / count,
        sum(pairs) / max(1, len(pairs)),
    )
    return dict(zip(OPTIONS, values, strict=True))


def _rest(query: str, window: str, words: list[str], question: MultipleChoice) -> dict[str, float]:
    kinds = zip(KINDS, question_kinds(question.stem), strict=True)
    counts = zip(DOMAINS, domain_counts(window), strict=True)
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
"""Names of the features; the part before the colon is the block."""

BLOCKS = tuple(dict.fromkeys(name.split(":")[0] for name in FEATURES))


def signal_matrix(signals: Sequence[Signals]) -> Matrix:
    """Return ``(n, s)`` float32 features of conversations, one per signal.

    The columns are :data:`SIGNALS`.

    Counts are ``log(1 + x)``, of the turns those after the first; a single turn without tools has zeros.
    """
    rows = [[float(of.get(name, 0.0)) for name in SIGNALS] for of in signals]
    values = np.array(rows, np.float64).reshape(len(signals), len(SIGNALS))
    turns = SIGNALS.index("turns")
    values[:, turns] = np.maximum(values[:, turns] - 1.0, 0.0)
    return np.log1p(values).astype(np.float32)


@dataclass(frozen=True, slots=True)
class QueryInputs:
    """Inputs of the heads for ``n`` queries.

    Attributes:
        vectors: ``(n, d)`` float32, unit rows.
        features: ``(n, f)`` float32: those of the text, then the similarity to each known category, then the signals
            of the conversation where the classifier takes them.
        queries: the texts.
    """

    vectors: Matrix
    features: Matrix
    queries: Sequence[str]

    def __len__(self) -> int:
        return len(self.queries)

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        vectors: Matrix,
        categories: Matrix,
        signals: Sequence[Signals] | None = None,
    ) -> QueryInputs:
        """Build the inputs of some queries.

        Args:
            queries: ``n`` texts.
            vectors: ``(n, d)`` unit rows.
            categories: ``(c, d)`` unit rows, one for each category; none where there are no categories.
            signals: of the conversation of each; None adds no columns.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        columns = [feature_matrix(queries)]
        if len(categories):
            columns.append(vectors @ categories.T)
        if signals is not None:
            columns.append(signal_matrix(signals))
        return cls(vectors, np.hstack(columns) if len(columns) > 1 else columns[0], queries)

    @classmethod
    def of_texts(cls, queries: Sequence[str]) -> QueryInputs:
        """Build inputs for text-only heads, without vectors and features."""
        no_vectors = np.zeros((len(queries), 0), np.float32)
        return cls(no_vectors, no_vectors, queries)

    def take(self, rows: Indices) -> QueryInputs:
        """Return the inputs of some rows."""
        return QueryInputs(self.vectors[rows], self.features[rows], [self.queries[row] for row in rows.tolist()])

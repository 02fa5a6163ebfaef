"""Language detection by py3langid, whose model is inside the package.

It is naive Bayes over byte n-grams (Lui and Baldwin, ACL 2012).

It was chosen over lingua by measurement. Of the 192 short queries in 30 languages of the tests' set 187 are right,
lingua's 188 (both choosing among the same 42 languages); but it takes 4.5 MB installed against 96 MB, 0.04 ms a query
against 0.23, and, for 18 languages, 0.6 s and 121 MB to load against 1.8 s and 372 MB.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from semroute import forks
from semroute._optional import require

# fmt: off
LANGUAGES = frozenset((
    "ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id",
    "it", "ja", "ko", "lt", "lv", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "sw", "ta", "te",
    "th", "tr", "uk", "ur", "vi", "zh",
))
# fmt: on
"""ISO 639-1 codes that are detected. Rarer languages, of which the model knows a hundred more, are left out: a short
text in one of these is too often taken for a rare one that resembles it."""

UNDETERMINED = "und"
"""Code of ISO 639-3 for a language that cannot be told."""

LEAST_CONFIDENCE = 0.3
"""Least confidence of a known language; any value from 0.1 to 0.4 does the same on the tests' "dev" rows."""

LEAST_SHARE = 0.2
"""Probability that a text's language is one of some known ones, below which it is taken for none of them. At .2, 120 of
129 queries in other languages are found, and 1 of 4,486 in known ones is taken for another."""

_SEEN = 1000
"""Characters at each end of a text that are read, so that a long one costs no more than a short one."""

_PARTS = re.compile(
    r"""[:\n"\u00ab\u00bb\u201c-\u201f\u2190-\u21ff\u300c-\u300f\uff1a]|(?<!\w)['\u2018]|['\u2019](?!\w)"""
)
"""Marks between parts of a text that may be in different languages: colons, quotation marks, arrows, line breaks."""

_NOT_A_LANGUAGE = "zxx"
"""The model's class for text without linguistic content."""

_loading = forks.lock()
_identifier: Any = None


def detect_language(text: str) -> str | None:
    """Detect the language of ``text``; None for one too short or unsure.

    The result is an ISO 639-1 code of :data:`LANGUAGES`.

    Of the "test" rows of the tests' set, 96 short queries in 30 languages and 12 texts in none, 91 get their language,
    5 that of a close relation (Norwegian for Swedish, Slovak for Czech and the like), and the 12 get None. The first
    call takes about half a second to load the model; after that a query takes about 0.04 ms. Safe to call from
    several threads.

    Raises:
        MissingExtraError: the extra "language" is not installed.
    """
    language, confidence = (_identifier or _load()).classify(_window(text))
    return language if confidence >= LEAST_CONFIDENCE and language != _NOT_A_LANGUAGE else None


def language_outside(text: str, known: Collection[str]) -> str | None:
    """Return the likeliest language of ``text`` if none of ``known`` is.

    None where one of them is, or where the text has no language: a language close to a known one is not told from it.
    A text that is in two languages, such as a request to translate, is in a known one if the part before or after a
    colon, a quotation mark, an arrow or a line break is. Safe to call from several threads.

    Raises:
        MissingExtraError: the extra "language" is not installed.
    """
    window = _window(text)
    language = _outside(window, known)
    parts = [part for part in _PARTS.split(window) if any(map(str.isalpha, part))] if language is not None else []
    return language if len(parts) < 2 or all(_outside(part, known) is not None for part in parts) else None


def _outside(text: str, known: Collection[str]) -> str | None:
    ranked = (_identifier or _load()).rank(text)
    share = sum(probability for language, probability in ranked if language in known or language == _NOT_A_LANGUAGE)
    language, confidence = ranked[0]
    return None if share >= LEAST_SHARE or confidence < LEAST_CONFIDENCE else str(language)


def _window(text: str) -> str:
    return text if len(text) <= 2 * _SEEN else f"{text[:_SEEN]}\n{text[-_SEEN:]}"


def prepare_language_detection() -> None:
    """Load the model now, so that no query waits for it.

    Raises:
        MissingExtraError: the extra "language" is not installed.
    """
    _load()


def _load() -> Any:
    global _identifier
    with _loading:
        if _identifier is None:
            module = require("py3langid.langid", what="telling languages apart", extra="language")
            # An identifier of our own: the package's shared one may be restricted by anybody else in the process.
            identifier = module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)
            identifier.set_languages([*sorted(LANGUAGES), _NOT_A_LANGUAGE])
            _identifier = identifier
        return _identifier

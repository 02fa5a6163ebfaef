"""Text analysis without a model: language, code, keywords, patterns."""

from semroute.text.code import looks_like_code
from semroute.text.language import LANGUAGES, detect_language, language_outside, prepare_language_detection
from semroute.text.normalise import folded, has_words
from semroute.text.patterns import LinearPattern, PatternError

__all__ = [
    "LANGUAGES",
    "LinearPattern",
    "PatternError",
    "detect_language",
    "folded",
    "has_words",
    "language_outside",
    "looks_like_code",
    "prepare_language_detection",
]

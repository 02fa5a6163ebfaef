"""What can be seen in a text without a model: its language, code, keywords, patterns."""

from semroute.texts.code import looks_like_code
from semroute.texts.keywords import folded, has_words
from semroute.texts.language import LANGUAGES, detect_language, prepare_language_detection
from semroute.texts.pattern import LinearPattern, PatternError

__all__ = [
    "LANGUAGES",
    "LinearPattern",
    "PatternError",
    "detect_language",
    "folded",
    "has_words",
    "looks_like_code",
    "prepare_language_detection",
]

"""What can be seen in a text without a model: its language, and whether it holds code."""

from semroute.texts.code import looks_like_code
from semroute.texts.language import LANGUAGES, detect_language

__all__ = ["LANGUAGES", "detect_language", "looks_like_code"]

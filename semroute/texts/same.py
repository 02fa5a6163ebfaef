"""When two texts count as the same."""

from __future__ import annotations

import unicodedata


def normalize(text: str) -> str:
    """Compatibility characters (NFKC), case and whitespace made alike."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())

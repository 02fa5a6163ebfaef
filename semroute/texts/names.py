"""Check and normalise the names of categories."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 1000
"""Characters of a category's name."""
_JOINERS = "\u200c\u200d"
"""Without them words of Persian and of many scripts of India are misspelt, and emoji fall apart."""


def normalize_name(name: str) -> str:
    """Normalise a name to Unicode's composed form (NFC).

    macOS hands out decomposed ones.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_printable(name: str) -> bool:
    """Return whether every character prints, or joins two that do."""
    return all(character.isprintable() or character in _JOINERS for character in name)


def name_problem(name: str) -> str | None:
    """Return why a category cannot bear a name; None where it can.

    Any printable text without space around it will do.
    """
    if not name.strip(_JOINERS).strip():
        return "a category's name must not be blank"
    if name != name.strip() or not is_printable(name):
        return "a category's name must be printable text without space around it"
    if len(name) > LONGEST_NAME:
        return f"a category's name must have at most {LONGEST_NAME:,} characters"
    return None


def name_key(name: str) -> str:
    """Return a key that is equal for names differing in case alone.

    A file system may hold such names to be the same.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())

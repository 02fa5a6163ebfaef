"""Names that people give: categories, wherever they are written, compared and shown."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 1000
"""Characters of a category's name."""
_JOINERS = "\u200c\u200d"
"""Without them words of Persian and of many scripts of India are misspelt, and emoji fall apart."""


def normalize_name(name: str) -> str:
    """Return a name in Unicode's composed form: macOS hands out decomposed ones."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_printable(name: str) -> bool:
    """Return whether every character prints, or joins two that do."""
    return all(character.isprintable() or character in _JOINERS for character in name)


def name_problem(name: str) -> str | None:
    """Return why a category cannot bear a name, and None where it can: any printable text without space around it."""
    if not name.strip(_JOINERS).strip():
        return "a category's name must not be blank"
    if name != name.strip() or not is_printable(name):
        return "a category's name must be printable text without space around it"
    if len(name) > LONGEST_NAME:
        return f"a category's name must have at most {LONGEST_NAME:,} characters"
    return None


def name_key(name: str) -> str:
    """Return a key that is equal for names which a file system may hold to be the same, whatever their case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())

"""Names of categories: validation, normalisation, suggestions."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable

MAX_NAME_LENGTH = 1000
"""Characters of a category's name."""
_JOINERS = "\u200c\u200d"
"""Joiners: without them words of Persian and of many scripts of India are misspelt, and emoji fall apart."""


def normalize_name(name: str) -> str:
    """Normalise a name to Unicode's composed form (NFC).

    macOS hands out decomposed ones.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_printable(name: str) -> bool:
    """Return True if every character prints, or joins two that do."""
    return all(character.isprintable() or character in _JOINERS for character in name)


def name_problem(name: str) -> str | None:
    """Return why a name is not valid for a category; None if it is.

    Any printable text without space around it will do.
    """
    if not name.strip(_JOINERS).strip():
        return "a category's name must not be blank"
    if name != name.strip() or not is_printable(name):
        return "a category's name must be printable text without space around it"
    if len(name) > MAX_NAME_LENGTH:
        return f"a category's name must have at most {MAX_NAME_LENGTH:,} characters"
    return None


def name_key(name: str) -> str:
    """Return a key that is equal for names differing in case alone.

    A file system may hold such names to be the same.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


# Suggestions for unknown names from a closed set.

LIKENESS = 0.6
"""Least similarity of two words, by the share of letters in common blocks, for a suggestion."""
MAX_SHOWN = 20
MAX_COMPARED_LENGTH = 100
"""Characters of a word that are compared."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the closest known word, in any case; None without one."""
    names = sorted(set(known))
    by_casefold = {name.casefold(): name for name in reversed(names)}
    matches = difflib.get_close_matches(word[:MAX_COMPARED_LENGTH], names, n=1, cutoff=LIKENESS)
    if matches:
        return matches[0]
    matches = difflib.get_close_matches(word[:MAX_COMPARED_LENGTH].casefold(), list(by_casefold), n=1, cutoff=LIKENESS)
    return by_casefold[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a suggestion of the closest known word; "" without one."""
    suggestion = nearest(word, known)
    return f'did you mean "{printable(suggestion)}"?' if suggestion else ""


def known_names(word: str, known: Collection[str], verb: str) -> str:
    """Return the end of a message about an unknown name.

    It lists the known names and suggests the one that was meant.

    Args:
        word: the unknown name.
        known: the closed set.
        verb: before the list, such as "there are" or "it has".
    """
    first_names = list(known)[:MAX_SHOWN]
    ellipsis = ", …" if len(known) > MAX_SHOWN else ""
    listing = f"{verb} {', '.join(map(printable, first_names)) or 'none'}{ellipsis}"
    suggestion = did_you_mean(word, known)
    return f"{listing}; {suggestion}" if suggestion else listing


def printable(name: str) -> str:
    """Return a name that may come from anyone as printable text."""
    return name if name and name.isprintable() and name.strip() == name else ascii(name)

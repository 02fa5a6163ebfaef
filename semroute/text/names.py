"""Check and normalise the names of categories."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable

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


# Names from a closed set, and the one that was meant by another.

LIKENESS = 0.6
"""Least likeness of two words, by the share of letters in common blocks, at which one may have been meant."""
MOST_SHOWN = 20
LONGEST = 100
"""Characters of a word that are compared."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant; None where none is near, whatever the case."""
    names = sorted(set(known))
    folded = {name.casefold(): name for name in reversed(names)}
    found = difflib.get_close_matches(word[:LONGEST], names, n=1, cutoff=LIKENESS)
    if found:
        return found[0]
    found = difflib.get_close_matches(word[:LONGEST].casefold(), list(folded), n=1, cutoff=LIKENESS)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask for the known word that was probably meant; empty where none is near."""
    meant = nearest(word, known)
    return f'did you mean "{printable(meant)}"?' if meant else ""


def known_names(word: str, known: Collection[str], verb: str) -> str:
    """End a message about an unknown name: those that there are, and the one that was meant.

    Args:
        word: the unknown name.
        known: the closed set.
        verb: before the list, such as "there are" or "it has".
    """
    shown = list(known)[:MOST_SHOWN]
    more = ", …" if len(known) > MOST_SHOWN else ""
    listed = f"{verb} {', '.join(map(printable, shown)) or 'none'}{more}"
    meant = did_you_mean(word, known)
    return f"{listed}; {meant}" if meant else listed


def printable(name: str) -> str:
    """Return a name that may come from anyone as printable text."""
    return name if name and name.isprintable() and name.strip() == name else ascii(name)

"""Names from a closed set, and the one that was meant by another."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

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

"""What is wrong in a configuration: a plain record that the loader, the check and the command line share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        severity: "error" stops queries from being answered; "warning" is most likely a mistake.
        key: dotted path of the key, such as ``deployments.0.base_url``; empty when the whole file is meant.
        message: what is wrong.
        fix: what to do about it; empty when the message says it all.
        line: 1-based line in the file, where one is known.
    """

    severity: Severity
    key: str
    message: str
    fix: str = ""
    line: int | None = None

    @property
    def text(self) -> str:
        """Message and fix as one sentence."""
        return f"{self.message}; {self.fix}" if self.fix else self.message


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be, if there is one."""
    found = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask for the known word that was probably meant; empty where none is near."""
    meant = nearest(word, known)
    return f'did you mean "{dotted([meant])}"?' if meant else ""


def dotted(path: Iterable[str | int]) -> str:
    """A path of keys and positions as one printable line; parts that do not print plainly are quoted."""
    return ".".join(_part(str(part)) for part in path)


def _part(part: str) -> str:
    return part if part and part.isprintable() and part.strip() == part else ascii(part)

"""What is wrong in a configuration: a plain record that the loader, the check and the command line share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from semroute.texts.nearest import did_you_mean, nearest, printable

__all__ = ["Problem", "Severity", "did_you_mean", "dotted", "nearest"]

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


def dotted(path: Iterable[str | int]) -> str:
    """A path of keys and positions as one printable line; parts that do not print plainly are quoted."""
    return ".".join(printable(str(part)) for part in path)

"""Regular expressions by RE2, with a bound on their work.

RE2 (Cox, "Regular Expression Matching in the Wild", 2010) takes time linear in text and pattern, whatever either is
made of. Linear is not yet fast: where its automaton does not fit into memory it walks all states for each byte, which
took 15 s for a megabyte and a pattern of 1,500 instructions. So the work is bounded too: the larger a pattern, the less
of a long text it reads.
"""

from __future__ import annotations

from typing import Any

from semroute._optional import require

MAX_WORK = 8_000_000
"""Largest work of a search, in instructions times bytes; at most about 0.1 s. A short pattern (20 instructions) reads
400,000 bytes of a text."""

MAX_INSTRUCTIONS = 2000
"""Largest pattern: larger ones would read less than 4,000 bytes."""


_SYNTAX = "it has neither look-around nor back-references: https://github.com/google/re2/wiki/Syntax"


class PatternError(ValueError):
    """Pattern that RE2 refuses, or that is too large.

    Args:
        message: what is wrong.
        fix: what to do about it.
    """

    def __init__(self, message: str, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(f"{message}; {fix}")


class LinearPattern:
    """Compiled pattern of RE2 (https://github.com/google/re2/wiki/Syntax).

    Safe to share between threads.

    Args:
        pattern: the expression; ``(?i)`` at its beginning ignores case, and ``\\w`` and ``\\b`` know ASCII alone.

    Raises:
        PatternError: it is malformed, uses features beyond RE2 (look-around, back-references), or is too large.
        MissingExtraError: the extra "rules" is not installed.
    """

    __slots__ = ("_reads", "_search")

    def __init__(self, pattern: str) -> None:
        compiled = _compile(pattern)
        size = max(int(compiled.programsize), 1)
        if size > MAX_INSTRUCTIONS:
            too_large = f"is too large: {size} instructions of RE2, and {MAX_INSTRUCTIONS} are allowed"
            raise PatternError(too_large, "count less: .* in place of .{0,500}, for example")
        self._search = compiled.search
        self._reads = MAX_WORK // size

    @property
    def reads(self) -> int:
        """Bytes of UTF-8 that are read of a text.

        Of a longer one these are the first and the last half.
        """
        return self._reads

    def found_in(self, text: str) -> bool:
        """Return True if the pattern matches in ``text``.

        Only the ends of a long text are searched.
        """
        raw = text.encode("utf-8", "replace")
        if len(raw) <= self._reads:
            return self._search(raw) is not None
        half = self._reads // 2
        return self._search(raw[:half]) is not None or self._search(raw[-half:]) is not None


def _compile(pattern: str) -> Any:
    re2 = require("re2", what="a regular expression in a rule", extra="rules")
    options = re2.Options()
    options.never_capture = True  # whether, not where
    options.log_errors = False
    try:
        return re2.compile(pattern.encode("utf-8"), options)
    except UnicodeEncodeError:
        raise PatternError("holds half a character (a lone surrogate)", "remove it") from None
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason_text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(f"is not a pattern that RE2 takes: {reason_text}", _SYNTAX) from None

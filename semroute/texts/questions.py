"""What kind of question a text asks, by its words."""

from __future__ import annotations

import re

KINDS = (
    "what", "which", "who", "when or where", "why", "how many", "how", "yes or no", "compute", "write", "explain",
    "choose", "complete",
)  # fmt: skip
"""Kinds of questions; a text may be of several, or of none."""

_PATTERNS = {
    "what": r"\bwhat\b",
    "which": r"\bwhich\b",
    "who": r"\bwho(?:m|se)?\b",
    "when or where": r"\b(?:when|where) (?:was|were|is|are|did|do|does|will|can|would)\b",
    "why": r"\bwhy\b",
    "how many": r"\bhow (?:many|much|long|far|old|often)\b",
    "how": r"\bhow (?:do|does|did|is|are|can|could|would|should|to)\b",
    "yes or no": r"(?:^|[.!?]\s)(?:is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b"
    r"[^.?!\n]{1,200}\?",
    "compute": r"\b(?:calculate|compute|find|determine|solve|evaluate|simplify|estimate|convert)\b",
    "write": r"\b(?:write|create|generate|implement|compose|draft|produce|make|rewrite|translate)\b",
    "explain": r"\b(?:explain|describe|summari[sz]e|compare|discuss|define|outline|list|name)\b",
    "choose": r"\b(?:best|most likely|following|except|not true|incorrect|correct|true|false)\b",
    "complete": r"_{3,}|\bfill in\b|[a-z,]\s*$",
}
_COMPILED = tuple(re.compile(_PATTERNS[kind], re.IGNORECASE) for kind in KINDS)


def question_kinds(text: str) -> tuple[bool, ...]:
    """Whether ``text`` asks a question of each of :data:`KINDS`, in English; all False in other languages."""
    return tuple(pattern.search(text) is not None for pattern in _COMPILED)

"""Explanation of a decision in an answer's header, on request.

Compact JSON in ASCII, without a word of the query; ``POST /v1/route`` has the whole decision in its body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from semroute.types import Decision

ASKING = "x-semroute-explain"
"""Request header that asks for the explanation, by ``1``."""
HEADER = "x-semroute-decision"

MAX_BYTES = 2048
"""Longest value: nginx and others take some 4 KB for all headers of an answer together."""
LEAST_IMPORTANT = ("steps_ms", "opinions", "categories", "cascade", "candidates")
"""Fields that are left out of one that would be longer, in this order."""
SHOWN_CATEGORIES = 3
_TEXT_LENGTHS = (200, 30)
"""Characters of a name or reason that are kept; fewer where too much is left without the fields above."""


def explanation_headers(headers: Mapping[str, str], decision: Decision | None) -> dict[str, str]:
    """Return the explanation as a header, if the request asks for it.

    It is empty before there is a decision.

    Args:
        headers: of the request, by names in lower case.
        decision: the decision that is answered.
    """
    if decision is None or headers.get(ASKING) != "1":
        return {}
    return {HEADER: explanation(decision)}


def explanation(decision: Decision) -> str:
    """Return a decision as ASCII JSON of at most :data:`MAX_BYTES`.

    ``shortened`` is true where fields are missing.
    """
    for length in _TEXT_LENGTHS:
        fields = _fields(decision, length)
        text = _compact(fields)
        for name in LEAST_IMPORTANT:
            if len(text) <= MAX_BYTES:
                return text
            del fields[name]
            text = _compact({**fields, "shortened": True})
    return text


def _fields(decision: Decision, length: int) -> dict[str, object]:
    """Return the shown fields of a decision, texts clipped to ``length``."""
    return {
        "model": _clipped(decision.model, length),
        "category": decision.category and _clipped(decision.category, length),
        "strategy": _clipped(decision.strategy, length),
        "reason": _clipped(decision.reason, length),
        **({"unlike_training": True} if decision.unlike_training else {}),
        "score": _rounded(decision.score),
        "threshold": _rounded(decision.threshold),
        "confidence": _rounded(decision.confidence),
        "is_fallback": decision.is_fallback,
        "elapsed_ms": _rounded(decision.elapsed_ms),
        "candidates": [_clipped(name, length) for name in decision.candidates],
        "cascade": [[_clipped(name, length) for name in tier] for tier in decision.cascade],
        "categories": [
            [_clipped(one.category, length), _rounded(one.score), _rounded(one.threshold)]
            for one in decision.categories[:SHOWN_CATEGORIES]
        ],
        "opinions": [
            {"strategy": _clipped(one.strategy, length), "kind": one.kind, "reason": _clipped(one.reason, length)}
            for one in decision.opinions
        ],
        "steps_ms": {_clipped(step, length): _rounded(spent) for step, spent in decision.steps_ms.items()},
    }


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _compact(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))

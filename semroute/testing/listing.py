"""The list of models, as each vendor gives it."""

from __future__ import annotations

from collections.abc import Sequence

from semroute.testing import anthropic_wire, gemini_wire
from semroute.testing.routes import Wire


def listing(wire: Wire, models: Sequence[str]) -> dict[str, object]:
    """The answer to a request for the list of models."""
    if wire is gemini_wire:
        methods = ["generateContent", "streamGenerateContent"]
        return {"models": [{"name": f"models/{name}", "supportedGenerationMethods": methods} for name in models]}
    if wire is anthropic_wire:
        made = "2025-01-01T00:00:00Z"
        data = [{"type": "model", "id": name, "display_name": name, "created_at": made} for name in models]
        ends = {"first_id": models[0], "last_id": models[-1]} if models else {"first_id": None, "last_id": None}
        return {"data": data, "has_more": False, **ends}
    listed = [{"id": name, "object": "model", "created": 1735689600, "owned_by": "semroute"} for name in models]
    return {"object": "list", "data": listed}

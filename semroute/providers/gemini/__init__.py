"""Google's Gemini, at AI Studio and Vertex."""

from __future__ import annotations

from semroute.providers.gemini.calls import complete, stream

__all__ = ["complete", "stream"]

"""Chat completions in OpenAI's wire format, which most servers speak."""

from __future__ import annotations

from semroute.providers.openai.calls import complete, stream

__all__ = ["complete", "stream"]

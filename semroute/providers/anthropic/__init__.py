"""Anthropic's Messages."""

from __future__ import annotations

from semroute.providers.anthropic.calls import complete, stream

__all__ = ["complete", "stream"]

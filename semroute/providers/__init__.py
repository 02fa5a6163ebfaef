"""Provider adapters over HTTP, one module per wire format.

A vendor with a known format is a row of :data:`~semroute.config.deployments.VENDORS`; only a new wire format needs a
module here and an entry in :data:`ADAPTERS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from semroute.config.deployments import Format
from semroute.providers import anthropic, gemini, openai
from semroute.providers.adapter import Adapter
from semroute.providers.target import CallTarget

__all__ = ["ADAPTERS", "Adapter", "CallTarget"]

ADAPTERS: Mapping[Format, Adapter] = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
"""Adapter by value of a deployment's ``format``."""

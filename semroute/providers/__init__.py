"""Provider adapters over HTTP, one module per wire format.

A vendor with a known format is a row of :data:`~semroute.config.deployments.VENDORS`; only a new wire format needs a
module here and an entry in :data:`ADAPTERS`, or a plugin (:class:`AdapterFactory`).
"""

from __future__ import annotations

from collections.abc import Mapping

from semroute.config import Deployment
from semroute.providers import anthropic, gemini, openai
from semroute.providers.adapter import Adapter, AdapterFactory, plugin_adapter
from semroute.providers.responses import ResponsesAdapter
from semroute.providers.target import CallTarget

__all__ = ["ADAPTERS", "Adapter", "AdapterFactory", "CallTarget", "adapter_of"]

ADAPTERS: Mapping[str, Adapter] = {
    "openai": openai,
    "anthropic": anthropic,
    "gemini": gemini,
    "responses": ResponsesAdapter(),
}
"""Built-in adapter by value of a deployment's ``format``."""


def adapter_of(deployment: Deployment) -> Adapter:
    """Return the adapter of a deployment's format, built in or a plugin's.

    Raises:
        PluginError: the plugin cannot be made, or is no adapter.
    """
    plugin = deployment.plugin
    return ADAPTERS[deployment.format] if plugin is None else plugin_adapter(plugin)

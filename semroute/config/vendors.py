"""Vendors as rows: a server that speaks a known wire format is an entry of :data:`VENDORS`, not a module.

A deployment's ``provider`` names a row, and the row says the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Format: TypeAlias = Literal["openai", "anthropic", "gemini"]


@dataclass(frozen=True, slots=True)
class Vendor:
    """How one vendor's servers differ from others of the same wire format.

    Attributes:
        format: wire format.
        base_url: where the vendor's service is; None where each user has an own address.
        key_header: header that carries the key.
        key_prefix: what stands before the key in it.
        api_key_env: variable in which the vendor's own tools look for the key; None for servers that want none.
        max_tokens: name of the field that limits the answer (OpenAI's format only).
        lacks: capabilities that the vendor's wire cannot carry.
        prices: the vendor's name in genai-prices; None for servers of one's own.
    """

    format: Format
    base_url: str | None
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    api_key_env: str | None = None
    max_tokens: str = "max_tokens"
    lacks: frozenset[str] = frozenset()
    prices: str | None = None


VENDORS: Mapping[str, Vendor] = {
    # https://platform.openai.com/docs/api-reference/chat/create: reasoning models refuse max_tokens.
    "openai": Vendor(
        "openai",
        "https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        max_tokens="max_completion_tokens",
        prices="openai",
    ),
    # https://learn.microsoft.com/azure/ai-foundry/openai/reference: the address names resource and deployment.
    "azure": Vendor("openai", None, "api-key", "", "AZURE_OPENAI_API_KEY", "max_completion_tokens", prices="azure"),
    # https://docs.anthropic.com/en/api/messages
    "anthropic": Vendor(
        "anthropic",
        "https://api.anthropic.com",
        "x-api-key",
        "",
        "ANTHROPIC_API_KEY",
        lacks=frozenset({"logprobs"}),
        prices="anthropic",
    ),
    # https://ai.google.dev/api/generate-content
    "google": Vendor(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "x-goog-api-key",
        "",
        "GEMINI_API_KEY",
        prices="google",
    ),
    # https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference: the address names project and
    # region and ends in /publishers/google; the key is an OAuth access token.
    "vertex": Vendor("gemini", None, prices="google"),
    "openrouter": Vendor(
        "openai", "https://openrouter.ai/api/v1", api_key_env="OPENROUTER_API_KEY", prices="openrouter"
    ),
    "groq": Vendor("openai", "https://api.groq.com/openai/v1", api_key_env="GROQ_API_KEY", prices="groq"),
    "mistral": Vendor("openai", "https://api.mistral.ai/v1", api_key_env="MISTRAL_API_KEY", prices="mistral"),
    "deepseek": Vendor("openai", "https://api.deepseek.com/v1", api_key_env="DEEPSEEK_API_KEY", prices="deepseek"),
    "together": Vendor("openai", "https://api.together.xyz/v1", api_key_env="TOGETHER_API_KEY", prices="together"),
    "fireworks": Vendor(
        "openai", "https://api.fireworks.ai/inference/v1", api_key_env="FIREWORKS_API_KEY", prices="fireworks"
    ),
    "xai": Vendor("openai", "https://api.x.ai/v1", api_key_env="XAI_API_KEY", prices="x-ai"),
    "vllm": Vendor("openai", "http://localhost:8000/v1"),
    "ollama": Vendor("openai", "http://localhost:11434/v1", lacks=frozenset({"logprobs"})),
    "llama-cpp": Vendor("openai", "http://localhost:8080/v1"),
}
"""The rows. A server that is not here is ``format: openai`` (or another) with its own ``base_url``."""

UNNAMED: Mapping[str, str] = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
"""The row that a deployment with a format and no ``provider`` starts from."""

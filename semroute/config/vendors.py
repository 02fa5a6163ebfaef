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
        lacks: capabilities, and parameters of a request, that the vendor's wire cannot carry.
        message_fields: fields of an assistant's message, beyond those that all servers of the format take, that the
            vendor reads when they are passed back (OpenAI's format only).
        seed: name of the field that seeds the sampling (OpenAI's format only).
        prices: the vendor's name in genai-prices; None for servers of one's own.
    """

    format: Format
    base_url: str | None
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    api_key_env: str | None = None
    max_tokens: str = "max_tokens"
    lacks: frozenset[str] = frozenset()
    message_fields: frozenset[str] = frozenset()
    seed: str = "seed"
    prices: str | None = None


# Parameters that OpenAI's own API has no field for; other servers of its format have some of them.
_NOT_OPENAIS = ("top_k", "thinking_budget", "cache_control")

VENDORS: Mapping[str, Vendor] = {
    # https://platform.openai.com/docs/api-reference/chat/create: reasoning models refuse max_tokens.
    "openai": Vendor(
        "openai",
        "https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        max_tokens="max_completion_tokens",
        lacks=frozenset(_NOT_OPENAIS),
        message_fields=frozenset({"refusal", "audio", "function_call"}),
        prices="openai",
    ),
    # https://learn.microsoft.com/azure/ai-foundry/openai/reference: the address names resource and deployment.
    "azure": Vendor(
        "openai",
        None,
        "api-key",
        "",
        "AZURE_OPENAI_API_KEY",
        "max_completion_tokens",
        lacks=frozenset(_NOT_OPENAIS),
        message_fields=frozenset({"refusal", "audio", "function_call"}),
        prices="azure",
    ),
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
    # https://ai.google.dev/gemini-api/docs/openai: Google's own server of OpenAI's format, with the signatures of
    # https://ai.google.dev/gemini-api/docs/thought-signatures in extra_content.
    "google-openai": Vendor(
        "openai",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        api_key_env="GEMINI_API_KEY",
        lacks=frozenset(_NOT_OPENAIS),
        message_fields=frozenset({"extra_content"}),
        prices="google",
    ),
    # https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference: the address names project and
    # region and ends in /publishers/google; the key is an OAuth access token. The tier of service is a header there.
    "vertex": Vendor("gemini", None, lacks=frozenset({"service_tier"}), prices="google"),
    # https://openrouter.ai/docs/api-reference/parameters, .../use-cases/reasoning-tokens, .../features/prompt-caching
    "openrouter": Vendor(
        "openai",
        "https://openrouter.ai/api/v1",
        api_key_env="OPENROUTER_API_KEY",
        lacks=frozenset({"n", "service_tier"}),
        message_fields=frozenset({"refusal", "reasoning", "reasoning_details", "annotations"}),
        prices="openrouter",
    ),
    # https://console.groq.com/docs/openai (fields that are a 400), https://console.groq.com/docs/api-reference (the
    # penalties are read by none of its models)
    "groq": Vendor(
        "openai",
        "https://api.groq.com/openai/v1",
        api_key_env="GROQ_API_KEY",
        lacks=frozenset({*_NOT_OPENAIS, "logprobs", "n", "presence_penalty", "frequency_penalty", "verbosity"}),
        prices="groq",
    ),
    # https://docs.mistral.ai/api: refuses every field that it does not know
    "mistral": Vendor(
        "openai",
        "https://api.mistral.ai/v1",
        api_key_env="MISTRAL_API_KEY",
        lacks=frozenset({*_NOT_OPENAIS, "logprobs", "user", "service_tier", "verbosity"}),
        message_fields=frozenset({"prefix"}),
        seed="random_seed",
        prices="mistral",
    ),
    # https://api-docs.deepseek.com/api/create-chat-completion; .../guides/thinking_mode wants the reasoning of a tool
    # loop back
    "deepseek": Vendor(
        "openai",
        "https://api.deepseek.com/v1",
        api_key_env="DEEPSEEK_API_KEY",
        lacks=frozenset(
            {*_NOT_OPENAIS, "seed", "n", "user", "service_tier", "verbosity", "parallel_tool_calls"},
        ),
        message_fields=frozenset({"reasoning_content", "prefix"}),
        prices="deepseek",
    ),
    # https://docs.together.ai/reference/chat-completions
    "together": Vendor(
        "openai",
        "https://api.together.xyz/v1",
        api_key_env="TOGETHER_API_KEY",
        lacks=frozenset(
            {"thinking_budget", "cache_control", "user", "service_tier", "verbosity", "parallel_tool_calls"}
        ),
        prices="together",
    ),
    # https://docs.fireworks.ai/api-reference/post-chatcompletions
    "fireworks": Vendor(
        "openai",
        "https://api.fireworks.ai/inference/v1",
        api_key_env="FIREWORKS_API_KEY",
        lacks=frozenset({"thinking_budget", "cache_control", "verbosity"}),
        message_fields=frozenset({"reasoning_content"}),
        prices="fireworks",
    ),
    # https://docs.x.ai/docs/api-reference
    "xai": Vendor(
        "openai",
        "https://api.x.ai/v1",
        api_key_env="XAI_API_KEY",
        lacks=frozenset({*_NOT_OPENAIS, "service_tier", "verbosity"}),
        prices="x-ai",
    ),
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server: ignores fields that it does not know
    "vllm": Vendor(
        "openai",
        "http://localhost:8000/v1",
        lacks=frozenset({"thinking_budget", "cache_control", "service_tier", "verbosity"}),
        message_fields=frozenset({"reasoning", "reasoning_content"}),
    ),
    # https://docs.ollama.com/api/openai-compatibility: ignores fields that it does not know
    "ollama": Vendor(
        "openai",
        "http://localhost:11434/v1",
        lacks=frozenset(
            {*_NOT_OPENAIS, "logprobs", "n", "user", "parallel_tool_calls", "service_tier", "verbosity"},
        ),
        message_fields=frozenset({"reasoning"}),
    ),
    # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md: ignores fields that it does not know
    "llama-cpp": Vendor(
        "openai",
        "http://localhost:8080/v1",
        lacks=frozenset({"thinking_budget", "cache_control", "n", "user", "service_tier", "verbosity"}),
        message_fields=frozenset({"reasoning_content"}),
    ),
}
"""The rows. A server that is not here is ``format: openai`` (or another) with its own ``base_url``."""

UNNAMED: Mapping[str, str] = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
"""The row that a deployment with a format and no ``provider`` starts from."""

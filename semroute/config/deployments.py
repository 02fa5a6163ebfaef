"""Vendors, models and deployments: sections of ``semroute.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from semroute.config.extensions import (
    BUILT_IN,
    Unresolved,
    factory_of,
    options_of,
    plugins_of,
    resolve,
    under,
)
from semroute.config.values import Count, Name, Number, Positive, Section, bad_value, environment_name, web_address
from semroute.plugins import Plugin, Plugins
from semroute.text.names import did_you_mean

# Vendors as rows: a server that uses a known wire format is an entry of :data:`VENDORS`, not a module.
#
# A deployment's ``provider`` names a row, which supplies the defaults.


def format_name(name: str, info: ValidationInfo) -> str:
    """Check the name of a wire format; a plugin is imported now."""
    if name not in BUILT_IN["providers"]:
        factory_of(resolve("providers", name, plugins_of(info.context)))
    return name


Format: TypeAlias = Annotated[str, AfterValidator(format_name)]
"""Name of a built-in wire format, or of a provider plugin."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """Vendor row: differences of its servers from others of the wire format.

    Attributes:
        format: wire format.
        base_url: address of the vendor's service; None where each user has an own address.
        key_header: header that carries the key.
        key_prefix: text before the key in that header.
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

    def speaks(self, format: object) -> bool:
        """Return True if its servers may be called in a format.

        Those of OpenAI's format may have OpenAI's Responses beside it, under the same address and with the same key.
        """
        return format == self.format or (format == "responses" and self.format == "openai")


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
"""Rows by vendor. A server that is not here is ``format: openai`` (or another) with its own ``base_url``."""

UNNAMED: Mapping[str, str] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "responses": "openai",
}
"""Default row of a deployment with a format and no ``provider``."""


def with_vendor_row(keys: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Add format, address and key of the vendor to a deployment's keys.

    Keys of the deployment itself take precedence.

    Args:
        keys: the deployment's keys from the file, without those that have no value.

    Raises:
        PydanticCustomError: the provider is not known, has no address of its own where none is given, or speaks another
            format than the one given.
    """
    provider, format = keys.get("provider"), keys.get("format")
    if provider is None:
        row = UNNAMED.get(format) if isinstance(format, str) else None
        return keys if row is None else {"base_url": VENDORS[row].base_url, **keys}
    if not isinstance(provider, str):
        return keys
    vendor = VENDORS.get(provider)
    if vendor is None:
        suggestion = did_you_mean(provider, VENDORS) or f"use one of {', '.join(VENDORS)}"
        raise bad_value(
            "no such provider", f"{suggestion} A server without a row takes format and base_url", key="provider"
        )
    if format is not None and not vendor.speaks(format):
        message = f'provider "{provider}" speaks the format "{vendor.format}"'
        raise bad_value(message, "leave format out", key="format")
    if vendor.base_url is None and "base_url" not in keys:
        message = f'is missing: provider "{provider}" has no address that all its users share'
        raise bad_value(message, "add your own address there", key="base_url")
    filled = {"format": vendor.format, "base_url": vendor.base_url, "api_key_env": vendor.api_key_env}
    return {**{key: value for key, value in filled.items() if value is not None}, **keys}


# Provider plugins: a wire format of another package, with a row of its own.


def vendor_of(plugin: Plugin) -> Vendor:
    """Return the row of a provider plugin, by the attributes of its factory.

    They are ``base_url``, ``api_key_env`` and ``lacks``; each is optional.
    """
    factory = plugin.load()
    address, variable = getattr(factory, "base_url", None), getattr(factory, "api_key_env", None)
    return Vendor(plugin.name, address, api_key_env=variable, lacks=frozenset(getattr(factory, "lacks", ())))


def with_plugin_row(said: Mapping[Any, Any], plugins: Plugins, info: ValidationInfo) -> Mapping[Any, Any]:
    """Add address and key of a provider plugin to a deployment's keys.

    Its options are validated by its own model. Keys of the deployment take precedence.

    Args:
        said: the deployment's keys.
        plugins: plugins that the configuration may name.
        info: of the validation.

    Raises:
        PydanticCustomError: no address is given, or options where none are taken.
        ValidationError: an option is invalid.
    """
    format, options = said.get("format", "openai"), said.get("options")
    if not isinstance(format, str):
        return said
    if format in BUILT_IN["providers"]:
        if options is not None:
            raise bad_value(f'the format "{format}" takes none', "remove them", key="options")
        return said
    try:
        plugin = resolve("providers", format, plugins)
        factory_of(plugin)
    except PydanticCustomError:  # reported where the format is named
        return said
    row = vendor_of(plugin)
    if row.base_url is None and "base_url" not in said:
        message = f'is missing: the format "{format}" has no address of its own'
        raise bad_value(message, "add the server's address there", key="base_url")
    filled = {"base_url": row.base_url, "api_key_env": row.api_key_env}
    whole = {**{key: value for key, value in filled.items() if value is not None}, **said}
    try:
        return {**whole, "options": options_of(plugin, Unresolved("providers", format, options), info.context)}
    except (PydanticCustomError, ValidationError) as error:
        raise under("options", error) from None


# Models and the deployments that serve them: sections of ``semroute.yaml``.

Variable: TypeAlias = Annotated[str, AfterValidator(environment_name)]
Dollars: TypeAlias = Annotated[Number, Field(ge=0)]


class Price(Section):
    """Price of a model, USD per million tokens.

    ``cached_input`` and ``cache_write`` are for input read from and written to the provider's cache; where they are
    left out such tokens cost what input costs.
    """

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None


class ModelSpec(Section):
    """Properties of a logical model; all are optional.

    Attributes:
        price: USD per million tokens.
        context: the longest input and output together, in tokens.
        max_output: the longest answer, in tokens: a request that asks for a longer one goes to other models.
        capabilities: such as ``tools``, ``vision``, ``json_schema``, ``logprobs``; None where they are not known.
        strengths: strength from 0 to 1 by field, such as ``{"reasoning": 0.9}``.
        description: what it is good for, in words that a judge reads.
    """

    price: Price | None = None
    context: Count | None = None
    max_output: Count | None = None
    capabilities: Annotated[tuple[Name, ...], Field(strict=False)] | None = None
    strengths: Mapping[Name, Annotated[Number, Field(ge=0, le=1)]] = Field(default_factory=dict)
    description: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


class Limits(Section):
    """Rate limits of the provider for each credential of a deployment.

    None is no limit.

    Attributes:
        rpm: requests a minute.
        tpm: tokens a minute, input and output together.
        parallel: calls at the same time.
    """

    rpm: Count | None = None
    tpm: Count | None = None
    parallel: Count | None = None


class Timeouts(Section):
    """Timeouts of a call, seconds.

    ``timeout_s`` of the deployment bounds the whole call.

    Attributes:
        connect_s: for a connection.
        first_token_s: for the first token of a stream, one of reasoning or of a tool call among them. Empty pieces (the
            one that names the role), pings and comments are none.
        idle_s: for the next bytes after it, pings and comments among them.
        keepalive_s: for the next token after it, however often the server pings: a server that thinks for long without
            a word pings, and so does one that has lost its model. Four times ``idle_s`` when left out.
    """

    connect_s: Positive = 5.0
    first_token_s: Positive = 30.0
    idle_s: Positive = 15.0
    keepalive_s: Positive | None = None

    @property
    def most_silent_s(self) -> float:
        """``keepalive_s``, or its default of four times ``idle_s``."""
        return 4 * self.idle_s if self.keepalive_s is None else self.keepalive_s


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise bad_value("must be the name of an environment variable, or a list of names", "such as OPENAI_API_KEY")
    return value


class Deployment(Section):
    """One deployment of a logical model.

    Attributes:
        name: unique name of the deployment.
        model: the logical model that it serves.
        provider: the vendor's row in :data:`~semroute.config.deployments.VENDORS`; None is a server that has none.
        format: the wire format that it speaks, built in or a plugin's; the provider's where one is named, unless that
            speaks OpenAI's, and is to be called in ``responses``.
        base_url: address under which the format's paths lie; the provider's where one is named and has one.
        upstream_model: the provider's own name for the model; the logical name when left out.
        api_key_env: the environment variables that hold its keys, one or several; empty where no key is wanted.
        api_version: Azure's ``api-version``.
        region: where it runs, for requests that ask for a region.
        price: USD per million tokens here; the model's when left out.
        limits: what the provider allows each key.
        timeout_s: the longest wait for a complete answer, seconds; below ``retries.deadline_s``, so that a call that
            hangs leaves time for another.
        timeouts: the longest waits for connection, first token and next token.
        carries: parameters of requests that it supports although its vendor's row, or its wire format, does not;
            sent under their own names.
        lacks: capabilities and parameters of requests that it does not support, besides those that the row names.
        message_fields: fields of an assistant's message that are sent back to it, besides those of the row
            (OpenAI's format only).
        options: options of a format that is a plugin, validated by its own model; None for built-in formats.
    """

    name: Name
    model: Name
    provider: Name | None = None
    format: Format = "openai"
    base_url: Annotated[str, AfterValidator(web_address)] = "https://api.openai.com/v1"
    upstream_model: Name | None = None
    api_key_env: Annotated[tuple[Variable, ...], BeforeValidator(_listed), Field(strict=False)] = ()
    api_version: Name | None = None
    region: Name | None = None
    price: Price | None = None
    limits: Limits = Limits.default()
    timeout_s: Positive = 60.0
    timeouts: Timeouts = Timeouts.default()
    carries: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    lacks: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    message_fields: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    options: Any = None
    _plugin: Plugin | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Record the plugin that speaks its format."""
        if self.format not in BUILT_IN["providers"]:
            self._plugin = resolve("providers", self.format, plugins_of(context))

    @property
    def plugin(self) -> Plugin | None:
        """Plugin that speaks its format; None for built-in formats."""
        # Several look-ups for each call, and pydantic's of a private attribute takes some microseconds.
        return None if self.format in BUILT_IN["providers"] else self._plugin

    @model_validator(mode="before")
    @classmethod
    def _as_its_row_says(cls, data: Any, info: ValidationInfo) -> Any:
        """Fill in defaults from the provider's row.

        They are format, address and key; what the file sets takes precedence.
        """
        if not isinstance(data, Mapping):
            return data
        said = {k: v for k, v in data.items() if v is not None or k not in cls.model_fields}
        return with_plugin_row(with_vendor_row(said), plugins_of(info.context), info)

    @property
    def vendor(self) -> Vendor:
        """Row of its vendor, or that of its format's own vendor."""
        if (plugin := self.plugin) is not None:
            return vendor_of(plugin)
        return VENDORS[self.provider or UNNAMED[self.format]]

    @property
    def row(self) -> Vendor | None:
        """Row of its vendor, named or found by its address.

        None for a server of one's own.
        """
        if (plugin := self.plugin) is not None:
            return vendor_of(plugin)
        if self.provider is not None:
            return VENDORS[self.provider]
        address = self.base_url.rstrip("/")
        return next((row for row in VENDORS.values() if row.speaks(self.format) and row.base_url == address), None)

    @property
    def upstream(self) -> str:
        """Model name at the provider."""
        return self.upstream_model if self.upstream_model is not None else self.model

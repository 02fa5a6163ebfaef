"""Models and the places where they can be called: sections of ``semroute.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from semroute.config.sections import Count, Name, Number, Positive, Section
from semroute.config.values import BAD_VALUE, environment_name, web_address
from semroute.config.vendors import UNNAMED, VENDORS, Format, Vendor

Variable: TypeAlias = Annotated[str, AfterValidator(environment_name)]
Dollars: TypeAlias = Annotated[Number, Field(ge=0)]


class Price(Section):
    """What a model costs, USD per million tokens.

    ``cached_input`` and ``cache_write`` are for input read from and written to the provider's cache; where they are
    left out such tokens cost what input costs.
    """

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None


class ModelSpec(Section):
    """What is known of a logical model; nothing of it has to be said.

    Attributes:
        price: USD per million tokens.
        context: the longest input and output together, in tokens.
        capabilities: such as ``tools``, ``vision``, ``json_schema``, ``logprobs``; None where they are not known.
        strengths: strength from 0 to 1 by field, such as ``{"reasoning": 0.9}``.
    """

    price: Price | None = None
    context: Count | None = None
    capabilities: Annotated[tuple[Name, ...], Field(strict=False)] | None = None
    strengths: Mapping[Name, Annotated[Number, Field(ge=0, le=1)]] = Field(default_factory=dict)


class Limits(Section):
    """What a provider allows each credential of a deployment; None is no limit.

    Attributes:
        rpm: requests a minute.
        tpm: tokens a minute, input and output together.
        parallel: calls at the same time.
    """

    rpm: Count | None = None
    tpm: Count | None = None
    parallel: Count | None = None


class Timeouts(Section):
    """How long to wait for a sign of life, seconds; ``timeout_s`` of the deployment bounds the whole call."""

    connect_s: Positive = 5.0
    first_token_s: Positive = 30.0
    idle_s: Positive = 15.0


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Deployment(Section):
    """One place where a logical model can be called.

    Attributes:
        name: unique name of the deployment.
        model: the logical model that it serves.
        provider: the vendor's row in :data:`~semroute.config.vendors.VENDORS`; None is a server that has none.
        format: the wire format that it speaks; the provider's where one is named.
        base_url: address under which the format's paths lie; the provider's where one is named and has one.
        upstream_model: the provider's own name for the model; the logical name when left out.
        api_key_env: the environment variables that hold its keys, one or several; empty where no key is wanted.
        api_version: Azure's ``api-version``.
        region: where it runs, for requests that ask for a region.
        price: USD per million tokens here; the model's when left out.
        limits: what the provider allows each key.
        timeout_s: the longest wait for a complete answer, seconds.
        timeouts: the longest waits for connection, first token and next token.
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
    limits: Limits = Limits()
    timeout_s: Positive = 60.0
    timeouts: Timeouts = Timeouts()

    @model_validator(mode="before")
    @classmethod
    def _as_its_row_says(cls, data: Any) -> Any:
        """Fill format, address and key from the provider's row; what the file says goes first."""
        if not isinstance(data, Mapping):
            return data
        provider, format = data.get("provider"), data.get("format")
        if provider is None:
            row = UNNAMED.get(format) if isinstance(format, str) else None
            return {"base_url": VENDORS[row].base_url, **_said(data)} if row is not None else data
        vendor = VENDORS.get(provider) if isinstance(provider, str) else None
        if vendor is None:
            message, known = f'no provider "{provider}" is known', ", ".join(VENDORS)
            fix = f"use one of {known}; or leave provider out and give format and base_url"
            raise PydanticCustomError(BAD_VALUE, "{message}; {fix}", {"message": message, "fix": fix})
        filled: dict[str, object] = {"format": vendor.format}
        if vendor.base_url is not None:
            filled["base_url"] = vendor.base_url
        elif data.get("base_url") is None:
            message = f'provider "{provider}" has no address of its own'
            raise PydanticCustomError(
                BAD_VALUE, "{message}; {fix}", {"message": message, "fix": "write base_url: your own address there"}
            )
        if vendor.api_key_env is not None:
            filled["api_key_env"] = vendor.api_key_env
        if data.get("format") not in (None, vendor.format):
            message = f'provider "{provider}" speaks the format "{vendor.format}"'
            raise PydanticCustomError(BAD_VALUE, "{message}; {fix}", {"message": message, "fix": "leave format out"})
        return {**filled, **_said(data)}

    @property
    def vendor(self) -> Vendor:
        """The row of its vendor, or that of its format's own vendor."""
        return VENDORS[self.provider or UNNAMED[self.format]]

    @property
    def upstream(self) -> str:
        """The model's name at the provider."""
        return self.upstream_model if self.upstream_model is not None else self.model


def _said(data: Mapping[Any, Any]) -> dict[Any, Any]:
    """The keys that have a value: one without counts as left out."""
    return {key: value for key, value in data.items() if value is not None}

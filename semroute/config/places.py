"""Models and the places where they can be called: sections of ``semroute.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from semroute.config.sections import Count, Name, Number, Positive, Section
from semroute.config.values import bad_value, environment_name, web_address
from semroute.config.vendor_row import with_vendor_row
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
        description: what it is good for, in words that a judge reads.
    """

    price: Price | None = None
    context: Count | None = None
    capabilities: Annotated[tuple[Name, ...], Field(strict=False)] | None = None
    strengths: Mapping[Name, Annotated[Number, Field(ge=0, le=1)]] = Field(default_factory=dict)
    description: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


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
    """How long to wait for a sign of life, seconds; ``timeout_s`` of the deployment bounds the whole call.

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
        """``keepalive_s``, or what stands for it."""
        return 4 * self.idle_s if self.keepalive_s is None else self.keepalive_s


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise bad_value("must be the name of an environment variable, or a list of names", "such as OPENAI_API_KEY")
    return value


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
        timeout_s: the longest wait for a complete answer, seconds; below ``retries.deadline_s``, so that a call that
            hangs leaves time for another.
        timeouts: the longest waits for connection, first token and next token.
        carries: parameters of requests that it takes although its vendor's row, or its wire format, has no word for
            them; sent under their own names.
        lacks: capabilities and parameters of requests that it does not take, besides those that the row names.
        message_fields: fields of an assistant's message that are sent back to it, besides those of the row
            (OpenAI's format only).
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

    @model_validator(mode="before")
    @classmethod
    def _as_its_row_says(cls, data: Any) -> Any:
        """Fill format, address and key from the provider's row; what the file says goes first."""
        if not isinstance(data, Mapping):
            return data
        return with_vendor_row({k: v for k, v in data.items() if v is not None or k not in cls.model_fields})

    @property
    def vendor(self) -> Vendor:
        """The row of its vendor, or that of its format's own vendor."""
        return VENDORS[self.provider or UNNAMED[self.format]]

    @property
    def row(self) -> Vendor | None:
        """The row of its vendor, told by its address where it is not named; None for a server of one's own."""
        if self.provider is not None:
            return VENDORS[self.provider]
        address = self.base_url.rstrip("/")
        return next((row for row in VENDORS.values() if row.format == self.format and row.base_url == address), None)

    @property
    def upstream(self) -> str:
        """The model's name at the provider."""
        return self.upstream_model if self.upstream_model is not None else self.model

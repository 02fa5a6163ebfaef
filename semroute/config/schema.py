"""The keys of ``semroute.yaml`` and the values that they take.

Everything is optional: an empty file is a valid configuration. Numbers are numbers (no ``"60"``, no ``true``), names
are printable text, unknown keys are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from semroute.config.conflicts import conflicts
from semroute.config.values import environment_name, folder, name, web_address

Name: TypeAlias = Annotated[str, AfterValidator(name)]
Names: TypeAlias = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class _Section(BaseModel):
    """A mapping of the file; a key that is written without a value (``models:``) counts as left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


class Price(_Section):
    """What a model costs, USD per million tokens."""

    input: Annotated[Number, Field(ge=0)]
    output: Annotated[Number, Field(ge=0)]


class ModelSpec(_Section):
    """What is known of a logical model; nothing of it has to be said.

    Attributes:
        price: USD per million tokens.
        context: the longest input and output together, in tokens.
        capabilities: such as ``tools``, ``vision``, ``json_schema``.
        strengths: strength from 0 to 1 by field, such as ``{"reasoning": 0.9}``.
    """

    price: Price | None = None
    context: Annotated[int, Field(gt=0)] | None = None
    capabilities: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    strengths: Mapping[Name, Annotated[Number, Field(ge=0, le=1)]] = Field(default_factory=dict)


class Deployment(_Section):
    """One place where a logical model can be called.

    Attributes:
        name: unique name of the deployment.
        model: the logical model that it serves.
        format: the wire format that it speaks.
        base_url: address under which the format's paths lie, with or without a slash at the end.
        upstream_model: the provider's own name for the model; the logical name when left out.
        api_key_env: the environment variable that holds the key; None where no key is wanted.
        timeout_s: the longest wait for a complete answer, seconds.
    """

    name: Name
    model: Name
    format: Literal["openai"] = "openai"
    base_url: Annotated[str, AfterValidator(web_address)] = "https://api.openai.com/v1"
    upstream_model: Name | None = None
    api_key_env: Annotated[str, AfterValidator(environment_name)] | None = None
    timeout_s: Annotated[Number, Field(gt=0)] = 60.0

    @property
    def upstream(self) -> str:
        """The model's name at the provider."""
        return self.upstream_model if self.upstream_model is not None else self.model


class CategoryOverride(_Section):
    """What the configuration says of a category, over the category's own file.

    ``threshold`` is None where the built threshold holds; 0.0 is a threshold like any other.
    """

    models: Names | None = None
    threshold: Annotated[Number, Field(ge=-1, le=1)] | None = None


class Fallback(_Section):
    """The models for queries that fit no category, in order."""

    models: Names = ("large",)


class Config(_Section):
    """A whole ``semroute.yaml``.

    Attributes:
        index: folder of the index artifact, relative to the working folder.
        models: what is known of the logical models, by name.
        deployments: where models can be called; of several for one model the first comes first.
        categories: what overrides the category files, by category.
        fallback: where queries go that fit no category.
    """

    index: Annotated[Path, BeforeValidator(folder)] = Path(".semroute/index")
    models: Mapping[Name, ModelSpec] = Field(default_factory=dict)
    deployments: Annotated[tuple[Deployment, ...], Field(strict=False)] = ()
    categories: Mapping[Name, CategoryOverride] = Field(default_factory=dict)
    fallback: Fallback = Fallback()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        found = conflicts(self.model_dump())
        if found:
            lines = "\n".join(f"{problem.key}: {problem.text}" for problem in found)
            raise PydanticCustomError(CONFLICT, "{lines}", {"lines": lines})
        return self

    def deployments_of(self, model: str) -> tuple[Deployment, ...]:
        """The deployments that serve ``model``, in the order of the file."""
        return tuple(deployment for deployment in self.deployments if deployment.model == model)


CONFLICT = "semroute_conflict"
"""Error type under which pydantic reports keys that contradict each other."""

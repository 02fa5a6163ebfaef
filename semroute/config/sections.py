"""What every section of ``semroute.yaml`` has in common."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from semroute.config.values import name

Name: TypeAlias = Annotated[str, AfterValidator(name)]
Names: TypeAlias = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(allow_inf_nan=False, gt=0)]
Share: TypeAlias = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1)]
Count: TypeAlias = Annotated[int, Field(gt=0)]

_building = threading.RLock()


class Section(BaseModel):
    """A mapping of the file; a key that is written without a value (``models:``) counts as left out."""

    # Schemas are built when a configuration is first read: most programs that only decide have none.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    @classmethod
    def default(cls) -> Self:
        """Construct the section without any key: nothing is to be checked, so that no schema is built."""
        return cls.model_construct()

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Build the schema, as pydantic does at first use; one thread at a time.

        Before 2.14 pydantic lets several threads build at once, of which one may see what another has half done:
        https://github.com/pydantic/pydantic/issues/13419
        """
        # One more frame lies between it and whoever asks.
        options["_parent_namespace_depth"] = options.get("_parent_namespace_depth", 2) + 1
        with _building:
            return super().model_rebuild(**options)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, Mapping):
            return data
        known = cls.model_fields.keys() | {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in data.items() if value is not None or key not in known}

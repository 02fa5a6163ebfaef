"""Import of optional dependencies, with the pip command in the error."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from semroute.errors import MissingExtraError


def require(module: str, *, what: str, extra: str) -> ModuleType:
    """Import ``module``, or name the extra of semroute that installs it.

    Args:
        module: dotted name of the module.
        what: the feature that needs it, for the message.
        extra: the extra's name in pyproject.toml.

    Raises:
        MissingExtraError: the module, or something it imports, is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, extra) from error

"""Relative paths of a configuration: they begin at the folder of the file that names them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationInfo

_FOLDERS = "folders"
SQLITE = "sqlite:///"
_NO_FILE = (":memory:", "file:")

Context: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """The folder of the file that a configuration was read from; configurations are equal whatever it is.

    Attributes:
        folder: the working folder where there is no file.
    """

    folder: Path = field(default=Path(), compare=False)

    @classmethod
    def of(cls, context: Context | None) -> Origin:
        """Read the folder from the context of a validation."""
        folders = (context or {}).get(_FOLDERS) or (Path(),)
        return cls(folders[0])


def context(*folders: Path) -> Context:
    """Make the context of a validation.

    Args:
        folders: of the file, and further ones to look in for what is not there; none is the working folder.
    """
    return {_FOLDERS: folders}


def anchored(path: Path, info: ValidationInfo) -> Path:
    """Begin a relative path at the folder of the file, or where else it leads to something.

    A path that leads nowhere begins at the folder of the file: a message then names where it should have been.
    """
    folders: Sequence[Path] = (info.context or {}).get(_FOLDERS) or ()
    if path.is_absolute() or not folders:
        return path
    return next((one for one in _candidates(path, folders) if is_there(one)), folders[0] / path)


def anchored_url(url: str, info: ValidationInfo) -> str:
    """Begin the path of a ``sqlite:///`` address at the folder of the file; ``~`` is the home folder."""
    if not url.startswith(SQLITE) or url.startswith(_NO_FILE, len(SQLITE)):
        return url
    path, mark, query = url.removeprefix(SQLITE).partition("?")
    return f"{SQLITE}{anchored(Path(path).expanduser(), info)}{mark}{query}"


def is_there(path: Path) -> bool:
    """Tell whether something lies at a path; what may not be looked at does not."""
    return os.path.exists(path)  # noqa: PTH110 (before Python 3.12 the method raises where a folder is closed)


def _candidates(path: Path, folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield folder / path
        yield from _beside_itself(path, folder)


def _beside_itself(path: Path, folder: Path) -> Iterator[Path]:
    """A path that names its file's own folder, as seen from the folder above.

    ``policy/policy.yaml`` of ``semroute tune-policy --out policy`` names ``policy/…``, for it can be put into a
    ``semroute.yaml`` as it is.
    """
    own, parts = folder.absolute().parts, [part for part in path.parts if part != ".."]
    for count in range(min(len(own), len(parts)), 0, -1):
        if own[-count:] == tuple(parts[:count]):
            yield folder.joinpath(*parts[count:])

"""Files that appear whole or not at all, and folders that are ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from semroute.errors import InputError


def own_folder(folder: Path, mark: str) -> None:
    """Make a folder, or take one that holds ``mark``: what else lies in a folder is somebody else's.

    Raises:
        InputError: it holds other files.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / mark).is_file():
        raise InputError(f"{folder}: holds other files; name a new folder")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write; it takes its place at the end, and is gone after an error.

    Raises:
        OSError: it cannot be written.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as made:
        part = Path(made.name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

"""Where the categories that come with semroute are."""

from __future__ import annotations

from pathlib import Path

from semroute.errors import DataError

_HERE = Path(__file__).resolve().parent


def shipped_folder() -> Path:
    """The folder of the shipped categories: inside the package where it was installed, else beside it in a checkout.

    Raises:
        DataError: neither is there.
    """
    installed = _HERE / "shipped"
    root = _HERE.parents[1]
    checkout = root / "categories"
    if installed.is_dir():
        return installed
    # Installed, the package's neighbours are other people's packages: only a project file makes it a checkout.
    if (root / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    raise DataError(
        "the shipped categories are missing from this installation: pip install --force-reinstall semroute-router",
        path=installed,
    )

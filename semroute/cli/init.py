"""``semroute init``: a configuration to start from."""

from __future__ import annotations

from pathlib import Path

import click

from semroute.errors import ConfigError
from semroute.whole import atomic_write


@click.command()
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    default=Path("semroute.yaml"),
    show_default=True,
    help="The file, or the folder to write semroute.yaml in.",
)
def init(force: bool, path: Path) -> None:
    """Write a commented semroute.yaml to start from."""
    from semroute.cli.console import print_line
    from semroute.config.template import template

    if path.is_dir():
        path = path / "semroute.yaml"
    try:
        _write(path, template(), force)
    except FileExistsError:
        raise ConfigError("is already there; --force replaces it", path=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be written: {reason}", path=path) from error
    print_line(f'wrote {path}; next: export OPENAI_API_KEY, or edit the deployments, then "semroute config check"')


def _write(path: Path, text: str, force: bool) -> None:
    content = text.encode("utf-8")
    if force:  # what is there stays, should the disk be full
        with atomic_write(path) as part:
            part.write_bytes(content)
    else:
        with path.open("xb") as file:
            file.write(content)

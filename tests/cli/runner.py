"""Commands run within the test's process, or watched at a terminal."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

from click.testing import CliRunner, Result

from semroute.cli.main import cli


def run(*arguments: str) -> Result:
    """The result of a command line; an error that it does not handle is raised."""
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def parts_sent(near: int, seconds: float, *, silence_s: float = 1.0) -> Iterator[bytes]:
    """What is sent to a terminal until nobody has it open any more; an empty part for each silence."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if not select.select([near], [], [], silence_s)[0]:
            yield b""
            continue
        try:
            part = os.read(near, 65536)
        except OSError:  # how Linux ends a terminal that nobody has open any more
            return
        if not part:
            return
        yield part

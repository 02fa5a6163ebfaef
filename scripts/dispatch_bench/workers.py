"""Processes of a measurement: contenders, and a Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import click
from harness.processes import SCRIPTS, Worker, module

from dispatch_bench.protocol import Setup

OURS, PEER = "semroute", "LiteLLM Router 1.102.0"


def ours(setup: Setup) -> list[str]:
    """Return the command that starts semroute."""
    return module("dispatch_bench.contender", setup.text())


def theirs(peer: Path, setup: Setup) -> list[str]:
    """Return the command that starts LiteLLM's Router with ``peer``."""
    return [str(peer), str(SCRIPTS / "peer_litellm.py"), setup.text()]


@contextmanager
def started(commands: list[list[str]]) -> Iterator[list[Worker]]:
    """Start several contenders at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(Worker(command)) for command in commands]


class Redis:
    """Private ``redis-server`` on a free port, without data on disk.

    It can be killed and restarted.

    Raises:
        UsageError: there is no ``redis-server`` on the path.
    """

    def __init__(self) -> None:
        self._program = shutil.which("redis-server")
        if self._program is None:
            raise click.UsageError("redis-server is not installed: apt-get install redis-server")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, empty; it answers when this returns."""
        assert self._program is not None
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 10.0
        while not _answers(self.port):
            if time.monotonic() > give_up or self._process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def free_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

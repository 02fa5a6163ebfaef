"""A Redis of the tests' own, on a port of its own, that can be killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


class OwnRedis:
    """One ``redis-server`` process that keeps nothing on disk."""

    def __init__(self, binary: str, folder: Path, password: str | None = None) -> None:
        self._binary = binary
        self._folder = folder
        self._password = password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it listens."""
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        secret = ["--requirepass", self._password] if self._password else []
        command = [self._binary, *own, "--save", "", "--appendonly", "no", *secret]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, "redis-server ended at its start"
                time.sleep(0.01)
        raise AssertionError("redis-server does not listen")

    def kill(self) -> None:
        """End it at once, with all it knows."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Keep its connections but answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after :meth:`freeze`, with all it knew."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def own_redis(password: str | None = None) -> Iterator[OwnRedis]:
    """A running Redis; skips the test where there is no ``redis-server``, unless the services are required."""
    binary = shutil.which("redis-server")
    if binary is None:
        assert os.environ.get("SEMROUTE_REQUIRE_SERVICES") != "1", "redis-server is not on the path"
        pytest.skip("redis-server is not on the path")
    with TemporaryDirectory() as folder:
        server = OwnRedis(binary, Path(folder), password)
        server.start()
        try:
            yield server
        finally:
            server.kill()

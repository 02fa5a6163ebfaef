"""Services to stop and start: PostgreSQL, providers, the gateway."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
import httpx
from dispatch_bench.workers import free_port
from harness.processes import environment, module

from semroute.testing import FakeProvider, RecordedRequest, Reply

START_S = 90.0
DATABASE_USER = "postgres"
_REQUEST = re.compile(r'"request_id": ?"([^"]+)"')


def wait_until(is_so: Callable[[], bool], what: str, within_s: float = START_S) -> None:
    """Wait until something is so.

    Raises:
        SystemExit: it is not within the time.
    """
    end = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {within_s:g} s")
        time.sleep(0.05)


class Postgres:
    """Private PostgreSQL on a free port; data outlives a stop.

    Raises:
        UsageError: it is not installed.
    """

    def __init__(self, folder: Path) -> None:
        found = shutil.which("initdb") or next(
            iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)), None
        )
        if found is None:
            raise click.UsageError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs, self._folder, self.port = Path(found).resolve().parent, folder / "postgres", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to run as root.
        self._user = DATABASE_USER if os.geteuid() == 0 else None

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _command(self, program: str, *words: object) -> list[str]:
        return [str(self._programs / program), *map(str, words)]

    @property
    def url(self) -> str:
        """Address of its database."""
        return f"postgresql://{DATABASE_USER}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        self._folder.mkdir()
        if self._user is not None:
            self._folder.parent.chmod(0o755)
            shutil.chown(self._folder, self._user)
        command = self._command("initdb", "-D", self._data, "-U", DATABASE_USER, "-A", "trust", "-N")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, user=self._user)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; it answers when this returns."""
        command = self._command("postgres", "-D", self._data, "-p", self.port, "-k", self._folder)
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self._folder, user=self._user)
        ready = self._command("pg_isready", "-h", "127.0.0.1", "-p", self.port, "-q")
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL's start")

    def stop(self) -> None:
        """Stop it, its connections cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # immediate: as after a crash, it recovers at its next start
            self._process.wait()
            self._process = None


class Provider:
    """Provider that can be stopped and started, with all its requests.

    Args:
        name: of its deployment.
    """

    def __init__(self, name: str) -> None:
        self.name, self.port = name, free_port()
        self._lives: list[FakeProvider] = []
        self._is_up = False
        self.up()

    @property
    def url(self) -> str:
        """Address up to ``/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """Requests so far."""
        return [request for life in self._lives for request in life.requests]

    def up(self) -> None:
        """Answer from now on; in a long while a word takes 2 ms."""
        life = FakeProvider(port=self.port, latency_s=0.02, token_s=0.002)
        life.__enter__()
        self._lives.append(life)
        self._is_up = True

    def down(self) -> None:
        """Cut every connection, and listen no more."""
        if self._is_up:
            self._lives[-1].__exit__(None, None, None)
            self._is_up = False

    def always(self, reply: Reply | None) -> None:
        """Set the reply to every request; None answers normally."""
        self._lives[-1].always(reply)

    def slow(self, latency_s: float) -> None:
        """Answer so many seconds late."""
        self._lives[-1].set_speed(latency_s=latency_s)


class Gateway:
    """``semroute serve`` with several workers, its configuration swappable.

    Args:
        folder: its working folder.
        index: index that it routes by.
        workers: processes.
        admin: key that may list the others.
    """

    def __init__(self, folder: Path, index: Path, workers: int, admin: str) -> None:
        self._admin, self._port = admin, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        command = module(
            "semroute.cli.main", "serve", "--port", self._port, "--workers", workers, "--no-reload", "--index",
            index.absolute(), "--log-format", "json",
        )  # fmt: skip
        self._log = folder / "gateway.log"
        with self._log.open("w") as output:
            env = environment(NO_PROXY="127.0.0.1")
            self._process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT)
        wait_until(self._is_ready, f"the gateway's start ({self._log})")

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise SystemExit(f"the gateway ended:\n{self._log.read_text(errors='replace')[-2000:]}")
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def spent(self) -> dict[str, float]:
        """Return what each key has spent in this month, USD, as counted."""
        headers = {"authorization": f"Bearer {self._admin}"}
        answer = httpx.get(f"{self.url}/v1/keys", headers=headers, trust_env=False).raise_for_status()
        return {one["name"]: one["spent_usd"] or 0.0 for one in answer.json()["keys"]}

    def workers(self) -> list[int]:
        """Return the ids of the processes that serve."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]

    def kill_worker(self) -> None:
        """Kill one worker at once."""
        os.kill(self.workers()[0], signal.SIGKILL)

    def reload(self) -> None:
        """Have it take the configuration that lies there."""
        self._process.send_signal(signal.SIGHUP)

    def end(self) -> int:
        """End it in good order; return its exit code."""
        self._process.terminate()
        return self._process.wait(90)

    def lines(self) -> dict[str, str]:
        """Return its line of each request, by the request's id."""
        return {found[1]: line for line in self._written() if (found := _REQUEST.search(line)) is not None}

    def warnings(self) -> list[str]:
        """Return what it wrote beside the lines of requests."""
        return [line for line in self._written() if _REQUEST.search(line) is None]

    def _written(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Replace the configuration of a folder whole."""
    (folder / "next.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    (folder / "next.yaml").replace(folder / "semroute.yaml")

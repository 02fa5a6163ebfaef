"""Servers of the measurement: double, gateway, LiteLLM, Portkey.

Each is a process.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from harness.processes import environment, module

START_S = 90.0
MODELS = ("small", "translator", "medium", "coder", "reasoner", "writer", "large")
PEER_SERVES = "from litellm import run_server; run_server()"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        url: up to ``/v1``.
        key: what its callers send.
        pid: of its one process.
        headers: that its callers send besides.
        streams: whether it answers requests for a stream.
    """

    url: str
    key: str
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)
    streams: bool = True

    def rss_mb(self) -> float:
        """Return the memory in use, MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_s(self) -> float:
        """Return the CPU time used so far, seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def double(folder: Path) -> Iterator[Server]:
    """Run the test double, which answers with the last question."""
    port = _free_port()
    command = module("semroute.testing", "--port", port)
    with _running(command, folder, port, "/_stats") as pid:
        yield Server(f"http://127.0.0.1:{port}/v1", "any", pid)


@contextmanager
def gateway(upstream: Server, index: Path | None, folder: Path, checkout: Path | None = None) -> Iterator[Server]:
    """Run ``semroute serve`` over the double, of another checkout if given."""
    deployments = [
        {"name": f"{model}-1", "model": model, "base_url": upstream.url, "price": {"input": 1.0, "output": 2.0}}
        for model in MODELS
    ]
    # JSON is YAML.
    log = {"enabled": True, "url": f"sqlite:///{folder}/log.db"}
    (folder / "semroute.yaml").write_text(json.dumps({"deployments": deployments, "log": log}), encoding="utf-8")
    with served(folder, index, checkout) as server:
        yield server


@contextmanager
def served(folder: Path, index: Path | None, checkout: Path | None = None) -> Iterator[Server]:
    """Run ``semroute serve`` with the configuration of a folder."""
    port = _free_port()
    chosen = () if index is None else ("--index", index.absolute())
    command = module("semroute.cli.main", "serve", "--port", port, *chosen)
    more = None if checkout is None else {"PYTHONPATH": str(checkout.absolute())}
    with _running(command, folder, port, "/readyz", more) as pid:
        yield Server(f"http://127.0.0.1:{port}/v1", "any", pid)


@contextmanager
def peer(python: Path, upstream: Server, folder: Path) -> Iterator[Server]:
    """Run LiteLLM's proxy with one worker and a key over the double."""
    port, key = _free_port(), f"sk-{secrets.token_hex(24)}"
    parameters = {"model": "openai/small", "api_base": upstream.url, "api_key": "any"}
    models = [{"model_name": "small", "litellm_params": parameters}]
    (folder / "litellm.yaml").write_text(json.dumps({"model_list": models}), encoding="utf-8")
    command = [str(python.absolute()), "-c", PEER_SERVES, "--config", "litellm.yaml", "--host", "127.0.0.1"]
    more = {"LITELLM_MASTER_KEY": key, "LITELLM_LOG": "ERROR"}
    command += ["--port", str(port), "--num_workers", "1"]
    with _running(command, folder, port, "/health/liveliness", more, own_packages=True) as pid:
        yield Server(f"http://127.0.0.1:{port}/v1", key, pid)


@contextmanager
def portkey(program: Path, upstream: Server, folder: Path) -> Iterator[Server]:
    """Run Portkey's gateway over the double; headers name the provider.

    Version 1.15.2 answers every request for a stream with a 500 on Node.js 20 (it changes headers that are immutable).
    """
    port = _free_port()
    command = [str(program.absolute()), f"--port={port}", "--headless"]
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": upstream.url}
    with _running(command, folder, port, "/", own_packages=True) as pid:
        yield Server(f"http://127.0.0.1:{port}/v1", "any", pid, headers, streams=False)


@contextmanager
def _running(
    command: Sequence[str],
    folder: Path,
    port: int,
    path: str,
    more: dict[str, str] | None = None,
    *,
    own_packages: bool = False,
) -> Iterator[int]:
    """Run a server in a folder, and wait until it answers at ``path``."""
    env = environment() | (more or {}) | {"NO_PROXY": "127.0.0.1"}
    if own_packages:
        env.pop("PYTHONPATH")
    log = folder / f"{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        _await(process, f"http://127.0.0.1:{port}{path}", log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{process.args!r} does not answer at {url}:\n{log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])

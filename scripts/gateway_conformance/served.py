"""Gateway to check: a real server over the test double, in this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from semroute.config import Config
from semroute.router import Router
from semroute.server.app import create_app
from semroute.testing import FakeProvider

PRICES = {"small": 0.1, "translator": 0.1, "medium": 1.0, "coder": 1.0, "reasoner": 1.0, "writer": 1.0, "large": 5.0}
"""USD per million input tokens of each model; output costs four times as much."""
PING_S = 0.2


@dataclass(frozen=True, slots=True)
class Served:
    """A running gateway.

    Attributes:
        url: without ``/v1``.
        provider: the double behind it.
        http: client of the gateway, for what no vendor's client can send.
    """

    url: str
    provider: FakeProvider
    http: httpx.Client

    @property
    def last(self) -> Any:
        """Body of the last request that the double got."""
        return self.provider.requests[-1].body


@contextmanager
def serving(formats: Mapping[str, str], index: Path | None, folder: Path) -> Iterator[Served]:
    """Serve models in their formats, with a ping every 0.2 s.

    The format is ``openai`` where none is given.
    """
    with FakeProvider() as provider:
        router = Router.load(index, config=_config(provider, formats), log=None)
        app = create_app(router, keys=folder / "keys.json", ping_s=PING_S)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
                yield Served(url, provider, http)
        finally:
            server.should_exit = True
            thread.join()
            listening.close()


def _config(provider: FakeProvider, formats: Mapping[str, str]) -> Config:
    urls = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }
    deployments = []
    for model, usd in PRICES.items():
        spoken = formats.get(model, "openai")
        price = {"input": usd, "output": 4 * usd}
        deployments.append(
            {"name": f"{model}-1", "model": model, "format": spoken, "base_url": urls[spoken], "price": price}
        )
    return Config.model_validate({"deployments": deployments, "groups": {"both": ["small", "large"]}})

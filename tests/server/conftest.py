"""The gateway, served by uvicorn on a port of its own over the fake provider."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from semroute.config import Config
from semroute.outcomes.log import open_log
from semroute.router import Router
from semroute.router.load import LoadedIndex
from semroute.testing import FakeProvider

if TYPE_CHECKING:
    from semroute.server.app import GatewayLimits
    from semroute.server.request_log import RequestLog

uvicorn = pytest.importorskip("uvicorn", reason='needs the extra "serve"')

MODELS = ("small", "large", "coder")


@dataclass(frozen=True)
class Served:
    """A running gateway and the provider behind it."""

    url: str
    provider: FakeProvider
    router: Router


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeProvider() as running:
        yield running


def config_over(provider: FakeProvider, format: str | dict[str, str], **sections: Any) -> Config:
    """Return a configuration of three models at the provider, in one of its formats, or each in its own."""
    urls = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }
    formats = dict.fromkeys(MODELS, format) if isinstance(format, str) else format
    deployments = [
        {
            "name": f"{model}-1",
            "model": model,
            "format": spoken,
            "base_url": urls[spoken],
            "price": {"input": 1.0, "output": 2.0},
        }
        for model, spoken in formats.items()
    ]
    return Config.model_validate({"deployments": deployments, "groups": {"both": ["small", "large"]}, **sections})


@pytest.fixture(scope="session")
def live(routing_index: Path) -> LoadedIndex:
    """The index in memory, opened once."""
    return LoadedIndex.open(routing_index, Config())


@pytest.fixture
def serve(live: LoadedIndex, provider: FakeProvider, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve a gateway whose deployments speak ``format``, with a log and a ping every ``ping_s`` seconds."""
    from semroute.server.app import GatewayLimits, create_app

    running: list[tuple[Any, threading.Thread, socket.socket]] = []

    def start(
        format: str | dict[str, str] = "openai",
        *,
        ping_s: float = 15.0,
        session_ttl_s: float = 300.0,
        limits: GatewayLimits | None = None,
        log: RequestLog | None = None,
        **sections: Any,
    ) -> Served:
        stored = {"enabled": True, "url": f"sqlite:///{tmp_path}/log.db"}
        config = config_over(provider, format, log=stored, **sections)
        router = Router(live.with_config(config), config, log=open_log(config.log, os.environ))
        listening = socket.create_server(("127.0.0.1", 0))
        keys = tmp_path / "keys.json"
        app = create_app(
            router, keys=keys, ping_s=ping_s, session_ttl_s=session_ttl_s, limits=limits or GatewayLimits(), log=log
        )
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread, listening))
        return Served(f"http://127.0.0.1:{listening.getsockname()[1]}", provider, router)

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join()
        listening.close()

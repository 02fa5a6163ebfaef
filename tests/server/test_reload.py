"""A gateway that takes a new configuration or index without dropping a request."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from server.conftest import config_over
from server.test_connections import soon

from semroute.router import Router
from semroute.server.app import create_app
from semroute.server.worker import ServeSettings, settle_memory
from semroute.testing import FakeProvider

CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "recipe for carrot soup"}]}


@dataclass
class Reloading:
    """A gateway over files, and the routers that it has opened."""

    url: str
    config: Path
    index: Path
    provider: FakeProvider
    routers: list[Router]
    settled: list[int]
    """Number of routers that were open, each time that a replaced one was closed."""

    def write(self, **sections: Any) -> None:
        """Replace the configuration."""
        self.config.write_text(written(self.provider, **sections))

    def models(self) -> list[str]:
        """Return the names that it serves."""
        return [one["id"] for one in httpx.get(f"{self.url}/v1/models").json()["data"]]


def written(provider: FakeProvider, **sections: Any) -> str:
    """Return a configuration file over the provider."""
    config = config_over(provider, "openai")
    deployments: list[Mapping[str, object]] = [
        {"name": one.name, "model": one.model, "base_url": provider.base_url, "price": {"input": 1.0, "output": 2.0}}
        for one in config.deployments
    ]
    return yaml.safe_dump({"deployments": deployments, "groups": {"both": ["small", "large"]}, **sections})


@pytest.fixture
def reloading(provider: FakeProvider, routing_index: Path, tmp_path: Path) -> Iterator[Callable[..., Reloading]]:
    """Serve from files that are checked every 20 ms."""
    import shutil

    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def start(**sections: Any) -> Reloading:
        config, index = tmp_path / "semroute.yaml", tmp_path / "index"
        shutil.copytree(routing_index, index)
        log = {"enabled": True, "url": f"sqlite:///{tmp_path}/log.db"}
        config.write_text(written(provider, log=log, **sections))
        settings = ServeSettings(index=index, config=config)
        routers = [settings.open()]

        def reopen(old: Router) -> Router:
            routers.append(settings.open(old))
            return routers[-1]

        keys, settled = tmp_path / "keys.json", list[int]()

        def settle() -> None:
            settled.append(sum(not router._is_closed for router in routers))

        app = create_app(routers[0], keys=keys, reopen=reopen, stamp=settings.stamp, check_s=0.02, settle=settle)
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread, listening))
        return Reloading(f"http://127.0.0.1:{listening.getsockname()[1]}", config, index, provider, routers, settled)

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.mark.slow
def test_a_changed_configuration_is_served_without_a_restart(reloading: Callable[..., Reloading]) -> None:
    served = reloading()
    assert "fresh" not in served.models()
    served.write(groups={"fresh": ["small"]})
    assert soon(lambda: "fresh" in served.models())
    assert httpx.post(f"{served.url}/v1/chat/completions", json={**CHAT, "model": "fresh"}).status_code == 200


@pytest.mark.slow
def test_a_changed_policy_file_is_served_without_a_restart(reloading: Callable[..., Reloading], tmp_path: Path) -> None:
    policy = tmp_path / "thrifty.yaml"
    policy.write_text("strategies: [rules]\nfallback: {models: [coder]}\n")
    served = reloading(policies={"thrifty": str(policy)})
    conversations = itertools.count()

    def model() -> str:
        asked = {**CHAT, "model": "thrifty", "user": f"of its own {next(conversations)}"}
        return httpx.post(f"{served.url}/v1/chat/completions", json=asked).headers["x-semroute-model"]

    assert "thrifty" in served.models()
    assert model() == "coder"
    policy.write_text("strategies: [rules]\nfallback: {models: [large]}\n")
    assert soon(lambda: model() == "large")


@pytest.mark.slow
def test_a_replaced_index_is_opened(reloading: Callable[..., Reloading]) -> None:
    served = reloading()
    manifest = served.index / "manifest.json"
    os.utime(manifest, ns=(1, 1))
    assert soon(lambda: len(served.routers) == 2)
    assert soon(lambda: served.routers[0]._is_closed)
    assert soon(lambda: served.settled == [1])
    assert httpx.post(f"{served.url}/v1/chat/completions", json=CHAT).status_code == 200


@pytest.mark.slow
def test_what_garbage_collections_leave_out_is_collected_once_it_is_replaced() -> None:
    class Loaded:
        def __init__(self) -> None:
            self.itself = self

    loaded = Loaded()
    alive = weakref.ref(loaded)
    try:
        settle_memory()
        del loaded
        gc.collect()
        assert alive() is not None
        settle_memory()
        assert alive() is None
    finally:
        gc.unfreeze()


@pytest.mark.slow
def test_a_wrong_configuration_keeps_the_old_one_and_is_logged(
    reloading: Callable[..., Reloading], caplog: pytest.LogCaptureFixture
) -> None:
    served = reloading()
    with caplog.at_level(logging.ERROR, "semroute"):
        served.config.write_text("deploymets: []\n")
        assert soon(lambda: "deploymets" in caplog.text)
    assert "the old one goes on serving" in caplog.text
    assert httpx.post(f"{served.url}/v1/chat/completions", json=CHAT).status_code == 200
    assert 'semroute_reloads_total{result="failed"} 1.0' in httpx.get(f"{served.url}/metrics").text
    assert len(served.routers) == 1
    served.write(groups={"fresh": ["small"]})
    assert soon(lambda: "fresh" in served.models())


@pytest.mark.slow
def test_a_running_stream_keeps_its_router_which_is_closed_at_its_end(reloading: Callable[..., Reloading]) -> None:
    served = reloading()
    served.provider.set_speed(first_token_s=0.1, token_s=0.1)
    query = "recipe for " + "carrot soup " * 50  # its echo takes ten seconds, a reload less than one
    body = {**CHAT, "stream": True, "messages": [{"role": "user", "content": query}]}
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=30) as answered:
        lines = answered.iter_lines()
        next(lines)
        served.write(groups={"fresh": ["small"]})
        assert soon(lambda: "fresh" in served.models())
        assert not served.routers[0]._is_closed
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert soon(lambda: served.routers[0]._is_closed)


@pytest.mark.slow
def test_no_request_is_lost_while_the_configuration_changes_again_and_again(
    reloading: Callable[..., Reloading],
) -> None:
    served = reloading()
    stop, statuses = threading.Event(), list[int]()

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                statuses.append(client.post(f"{served.url}/v1/chat/completions", json=CHAT).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(5):
        served.write(groups={f"group-{number}": ["small"]})
        assert soon(lambda name=f"group-{number}": name in served.models())  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses
    assert set(statuses) == {200}
    assert soon(lambda: all(one._is_closed for one in served.routers[:-1])), [one._is_closed for one in served.routers]
    assert not served.routers[-1]._is_closed
    assert len(served.routers) >= 6  # a file that is seen half written is one more


@pytest.mark.slow
def test_a_budget_that_is_used_up_stays_so_after_a_reload(reloading: Callable[..., Reloading], tmp_path: Path) -> None:
    from semroute.server.keys import create_key

    served = reloading()
    secret = create_key(tmp_path / "keys.json", "poor", rpm=1)[1]
    headers = {"authorization": f"Bearer {secret}"}
    assert httpx.post(f"{served.url}/v1/chat/completions", json=CHAT, headers=headers).status_code == 200
    served.write(groups={"fresh": ["small"]})
    assert soon(lambda: len(served.routers) == 2 and served.routers[0]._is_closed)
    assert httpx.post(f"{served.url}/v1/chat/completions", json=CHAT, headers=headers).status_code == 429

"""``semroute serve``: the gateway at the prompt."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.console import config_option, index_option
from semroute.errors import InputError, SemrouteError

if TYPE_CHECKING:
    from semroute.config import Config

DRAIN_S = 30
"""Longest wait for running answers when the server is told to end, seconds."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on: this machine alone.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--allow-host", "allowed", multiple=True, metavar="NAME", help="Name that clients call it by (repeat).")
@click.option("--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="Web page that may call it (repeat).")
@click.option(
    "--keys",
    "keys_path",
    type=click.Path(path_type=Path),
    default=Path(".semroute/keys.json"),
    show_default=True,
    help="Keys of semroute keys; without the file, everybody on this machine may call.",
)
@click.option(
    "--session-ttl",
    "session_ttl_s",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Pause after which a conversation may change its model freely: as long as its provider caches it.",
)
@click.option("--demo", is_flag=True, help="Serve the test double's models, without a key.")
@index_option
@config_option
def serve(
    host: str,
    port: int,
    allowed: tuple[str, ...],
    origins: tuple[str, ...],
    keys_path: Path,
    session_ttl_s: float,
    demo: bool,
    index: Path | None,
    config_path: Path | None,
) -> None:
    """Serve OpenAI's and Anthropic's formats: change an application's base URL, and it is routed.

    Models come from semroute.yaml; without one, from the vendors whose keys are in the environment.
    """
    from semroute._optional import require

    require("starlette", what="semroute serve", extra="serve")
    require("uvicorn", what="semroute serve", extra="serve")
    import uvicorn

    from semroute.router import Router
    from semroute.server.app import create_app
    from semroute.server.guards import LOOPBACK
    from semroute.server.keys import read_keys

    if host not in LOOPBACK and not read_keys(keys_path):
        raise InputError(
            f"--host {host} lets other machines spend your money: make a key for each caller first, semroute keys "
            "create NAME"
        )
    if host not in LOOPBACK and not allowed:
        raise InputError(f"--host {host}: name what other machines call it by, too: --allow-host NAME")
    with _listening(host, port) as listening, _pool(config_path, demo) as config:
        router = Router.load(index, config=config, log=config.log.enabled is not False)
        hosts = LOOPBACK | set(allowed)
        app = create_app(router, keys=keys_path, hosts=hosts, origins=origins, session_ttl_s=session_ttl_s)
        _greet(host, listening.getsockname()[1])
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=DRAIN_S
        )
        uvicorn.Server(settings).run(sockets=[listening])


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open the port before anything is loaded, so that one in use is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise SemrouteError(f"{host}:{port}: {os.strerror(error.errno or 0)}; choose another with --port") from None
    with listening:
        # Accepted connections inherit it. Without it a body would wait 40 ms for the acknowledgement of its head
        # (asyncio sets it only on sockets that it made itself).
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listening


@contextmanager
def _pool(path: Path | None, demo: bool) -> Iterator[Config]:
    from semroute.config import load_config
    from semroute.server.pools import demo_config, keyed_config

    if demo:
        from semroute.testing import FakeProvider

        with FakeProvider(keep=100) as provider:
            yield demo_config(provider.base_url)
        return
    config = load_config(path)
    yield config if config.deployments else keyed_config(os.environ)


def _greet(host: str, port: int) -> None:
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{port}"
    click.echo(f"semroute listens on {address}\n")
    click.echo(f'  OpenAI      OpenAI(base_url="{address}/v1", api_key="any"), model="auto"')
    click.echo(f'  Anthropic   Anthropic(base_url="{address}", api_key="any"), model="claude-auto"')
    click.echo(f"  try         curl {address}/v1/chat/completions -H 'content-type: application/json' \\")
    click.echo("""                -d '{"model": "auto", "messages": [{"role": "user", "content": "hello"}]}'\n""")
    if name in ("127.0.0.1", "localhost", "[::1]"):
        click.echo("Only this machine can call it. Ctrl-C ends it.")

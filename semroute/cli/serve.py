"""``semroute serve`` and ``connect``: the gateway at the prompt."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semroute.cli.console import config_option, index_option, print_note, print_text
from semroute.errors import InputError, SemrouteError
from semroute.server.keys import DEFAULT_FILE, read_keys

if TYPE_CHECKING:
    from semroute.config import Config


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on: this machine alone.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--allow-host", "allowed", multiple=True, metavar="NAME", help="Name that clients call it by (repeat).")
@click.option("--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="Web page that may call it (repeat).")
@click.option(
    "--keys",
    "keys_path",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
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
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes that serve.")
@click.option(
    "--max-concurrency",
    default=2000,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Requests that a process serves at once, open streams included; further ones get a 503.",
)
@click.option(
    "--drain",
    "drain_s",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Longest wait for running answers at SIGTERM or Ctrl-C.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text", "none"]),
    default="none",
    show_default=True,
    help="Line for each request on standard error, without prompts and keys.",
)
@click.option(
    "--traces",
    metavar="URL",
    help="Collector that gets traces by OTLP over HTTP, such as http://localhost:4318; OTEL_EXPORTER_OTLP_ENDPOINT "
    "names one too.",
)
@click.option(
    "--trace-upstream",
    "traced_upstream",
    multiple=True,
    metavar="DEPLOYMENT",
    help="Deployment that is told the trace of its calls, by traceparent (repeat); no other is.",
)
@click.option("--no-reload", is_flag=True, help="Reload on SIGHUP only, not when configuration or index change.")
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
    workers: int,
    no_reload: bool,
    **operation: Any,
) -> None:
    """Serve OpenAI's and Anthropic's formats over HTTP, and route requests.

    An application changes its base URL, and nothing else.

    Models come from semroute.yaml; without one, from the vendors whose keys are in the environment. Both it and the
    index are loaded anew when they change, and on SIGHUP; at SIGTERM running answers end first, and the exit code is
    143.
    """
    from semroute._optional import require

    require("starlette", what="semroute serve", extra="serve")
    require("uvicorn", what="semroute serve", extra="serve")
    require("prometheus_client", what="semroute serve", extra="serve")
    from semroute.server.guards import LOOPBACK

    if host not in LOOPBACK and not read_keys(keys_path):
        raise InputError(
            f"--host {host} lets other machines spend your money: make a key for each caller first, semroute keys "
            "create NAME"
        )
    if host not in LOOPBACK and not allowed:
        raise InputError(f"--host {host}: name what other machines call it by, too: --allow-host NAME")
    with _listening(host, port) as listening, _demonstration(demo) as demo_url:
        given = {
            "index": index,
            "config": config_path,
            "demo_url": demo_url,
            "keys": keys_path,
            "hosts": LOOPBACK | set(allowed),
            "origins": origins,
            "session_ttl_s": session_ttl_s,
            "is_watching": not no_reload,
        }
        _run(listening, workers, partial(_greet, host, listening.getsockname()[1]), {**given, **operation})


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open the port before anything loads, to find one in use at once."""
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
def _demonstration(demo: bool) -> Iterator[str | None]:
    """Run the test double, and yield its address."""
    if not demo:
        yield None
        return
    from semroute.testing import FakeProvider

    with FakeProvider(keep=100) as provider:
        yield provider.base_url


def _run(listening: socket.socket, workers: int, greet: partial[None], given: dict[str, Any]) -> None:
    """Serve in this process, or in several others."""
    if workers > 1:
        from semroute.server.supervisor import Supervisor, shared_metrics

        with shared_metrics():
            from semroute.server.worker import ServeSettings

            settings = ServeSettings(**given)
            _warn_of_state(settings.load())
            Supervisor(listening, settings, workers, on_start=greet).run()
        return
    from semroute.server.worker import ServeSettings, serve_on

    settings = ServeSettings(**given)
    serve_on(listening, settings, settings.open(), on_start=greet)


def _warn_of_state(config: Config) -> None:
    if config.state == "memory":
        click.echo(
            "Warning: limits, budgets and breakers are counted by each worker for itself, so that a budget holds once "
            "per worker; state: redis://… in semroute.yaml counts them together",
            err=True,
        )


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


# Coding agents that call the gateway.


@click.command()
@click.argument("agent", type=click.Choice(["codex", "claude-code", "opencode"]))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Address of the gateway.")
@click.option("--undo", is_flag=True, help="Restore the settings of before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def connect(agent: str, url: str, undo: bool, yes: bool) -> None:
    """Connect AGENT to the gateway: show the change, ask, and write it."""
    from semroute.workflows.connect import AGENTS, disconnect
    from semroute.workflows.connect import connect as connected

    chosen, home = AGENTS[agent], Path.home()
    change = (
        disconnect(chosen, home=home, env=os.environ)
        if undo
        else connected(chosen, url.rstrip("/").removesuffix("/v1"), home=home, env=os.environ)
    )
    if not change.diff:
        print_note(f"{change.path}: nothing to change")
        if undo:
            change.apply()
        return
    print_text(change.diff)
    if yes or click.confirm("Write it?", err=True):
        change.apply()
        print_note(f"{change.path} written; undo: semroute connect {agent} --undo" if not undo else "undone")

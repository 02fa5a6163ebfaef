"""PostgreSQL connections with a time limit on the server's silence.

A server that hangs (a stopped process, a full disk under it, a firewall that forgot the connection) keeps the socket
open and sends nothing. The kernel ends connections that the network lost (``tcp_user_timeout``, keepalives:
https://www.postgresql.org/docs/current/libpq-connect.html), but a stopped server still acknowledges every packet. So
each wait of the driver is limited here as well, by silence and not by duration: slow progress is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 5
"""Time limit of a new connection, seconds."""
WRITE_S = 10.0
"""Longest silence of the server while outcomes are written or a database is opened, seconds."""
READ_S = 60.0
"""Longest silence of the server while the log is read, seconds: a large table is searched in silence."""
MIGRATE_S = 120.0
"""Longest silence of the server while its tables are migrated, seconds."""
CONNECTING = {
    "connect_timeout": CONNECT_S,
    "tcp_user_timeout": int(WRITE_S * 1000),
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""Parameters of a connection; parameters in the address override them."""

_patience: ContextVar[float] = ContextVar("semroute_log_patience", default=READ_S)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Set the longest silence of servers in this context, in seconds."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


def bound_waiting(engine: Engine) -> None:
    """Make an engine's connections fail after a silence of ``patience``."""

    def connect(_dialect: object, _record: object, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        return _bounded_connection().connect(*arguments, **keywords)

    event.listen(engine, "do_connect", connect)


@cache
def _bounded_connection() -> type[psycopg.Connection[Any]]:
    import psycopg

    class BoundedConnection(psycopg.Connection[Any]):
        """Connection whose waits are limited."""

        # Every wait of a connection goes through here; the driver wakes a waiting generator several times a second.
        def wait(self, gen: Any, *arguments: Any, **keywords: Any) -> Any:
            return super().wait(_bounded(gen, _patience.get(), self._broken), *arguments, **keywords)

        def _broken(self, seconds: float) -> psycopg.OperationalError:
            self.close()
            return psycopg.OperationalError(f"the server did not answer for {seconds:g} s")

    return BoundedConnection


def _bounded(
    generator: Generator[Any, Any, Any], most_s: float, timed_out: Callable[[float], Exception]
) -> Generator[Any, Any, Any]:
    """Run a generator of the driver; raise if its socket stalls ``most_s``."""
    ready_at, ready = monotonic(), None
    while True:
        try:
            events = generator.send(ready)
        except StopIteration as ended:
            return ended.value
        ready = yield events
        if ready:
            ready_at = monotonic()
        elif monotonic() - ready_at > most_s:
            generator.close()
            raise timed_out(most_s)

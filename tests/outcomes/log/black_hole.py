"""A network between a log and its PostgreSQL that can fall silent without closing anything."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit


class BlackHole:
    """A TCP proxy to the server of an address; :attr:`url` is the address through it, at a free port or the given."""

    def __init__(self, url: str, port: int = 0) -> None:
        parts = urlsplit(url)
        self._target = parts.hostname or "", parts.port or 5432
        self._listener = socket.create_server(("127.0.0.1", port))
        user = f"{parts.username}@" if parts.username else ""
        self.url = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self._listener.getsockname()[1]}"))
        self._open: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._mark: bytes | None = None
        self._is_closed = False
        self.swallowed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                self._open.append(near)
                self._flows.wait()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._open.append(far)
            if self._is_closed:
                far.close()
                return
            swallows = threading.Event()
            for one, other, is_out in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(one, other, swallows, is_out), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, swallows: threading.Event, is_out: bool) -> None:
        with suppress(OSError):
            while data := one.recv(4096):
                self._flows.wait()
                if is_out and self._mark is not None and self._mark in data:
                    self._mark = None
                    swallows.set()
                    self.swallowed.set()
                if not swallows.is_set():
                    other.sendall(data)
            if swallows.is_set():
                return  # nobody on the other side hears of the end
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Hold all bytes back, and all new connections."""
        self._flows.clear()

    def go_on(self) -> None:
        """Let the held bytes and connections go on."""
        self._flows.set()

    def swallow_from(self, mark: bytes) -> None:
        """Lose the connection that sends these bytes next, for good, and without a word to either side."""
        self._mark = mark

    def close(self) -> None:
        """End everything."""
        self._is_closed = True
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            end.close()

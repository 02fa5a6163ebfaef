"""The server behind :class:`FakeProvider`: threads of the standard library, HTTP/1.1 with kept connections."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from semroute.testing.replies import JSON, Reply, error, respond


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it arrived.

    ``headers`` has lower-case names; ``body`` is the parsed JSON, or None where it was not JSON.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class FakeProvider:
    """An OpenAI-compatible server on this machine, as a context manager.

    Unscripted chat requests are answered with the last user message, ``/v1/embeddings`` with unit vectors that are the
    same at every call.

    Args:
        key: the bearer token to ask for (401 without it); None takes any request.
        dimensions: length of the embeddings.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
    """

    def __init__(self, *, key: str | None = None, dimensions: int = 64, host: str = "127.0.0.1", port: int = 0) -> None:
        self._key = key
        self._dimensions = dimensions
        self._address = (host, port)
        self._lock = threading.Lock()
        self._replies: deque[Reply] = deque()
        self._requests: list[RecordedRequest] = []
        self._stopping = threading.Event()
        self._server: _Server | None = None

    @property
    def base_url(self) -> str:
        """Address for a deployment's ``base_url``; known while the server runs."""
        if self._server is None:
            raise RuntimeError('the provider is not running; use it as "with FakeProvider() as provider:"')
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, in order of arrival."""
        with self._lock:
            return list(self._requests)

    def script(self, *replies: Reply) -> None:
        """Answer the coming requests with these, one each and in order, after those that are already waiting."""
        with self._lock:
            self._replies.extend(replies)

    def __enter__(self) -> Self:
        self._stopping.clear()
        self._server = _Server(self._address, self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="fake-provider", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            self._stopping.set()
            server.stop()

    def reply(self, request: RecordedRequest) -> Reply:
        """Record a request and settle its answer; called by the server's threads."""
        with self._lock:
            self._requests.append(request)
            scripted = self._replies.popleft() if self._replies else Reply()
        if scripted.delay_s:
            self._stopping.wait(scripted.delay_s)
        if scripted.body is not None:
            return scripted
        if self._key is not None and request.headers.get("authorization") != f"Bearer {self._key}":
            status, body = 401, error("incorrect API key provided", 401)
        else:
            status, body = respond(request.path, request.body, dimensions=self._dimensions)
        return Reply(status, json.dumps(body).encode(), JSON)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that stop() waits for them
    request_queue_size = 128  # with the 5 of http.server, many clients at once wait a second for a second try

    def __init__(self, address: tuple[str, int], provider: FakeProvider) -> None:
        self.provider = provider
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer is no news; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """End the server, its kept connections and its threads."""
        self.shutdown()
        with self._connections_lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the client closed it first
                    continue
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "0")
        raw = self.rfile.read(int(length) if length.isdigit() else 0)
        self._answer(_parse(raw))

    def do_GET(self) -> None:
        self._answer(None)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged: the requests are recorded."""

    def _answer(self, body: object) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.provider.reply(RecordedRequest(self.command, self.path, headers, body))
        content = reply.body or b""
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _parse(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return None

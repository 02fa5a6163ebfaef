"""Records of served requests for metrics and log, without prompts."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from semroute.errors import DispatchError
from semroute.server.formats import ServedCall
from semroute.server.keys import VirtualKey
from semroute.types import Completion, Decision, Delta, Usage, total_cost

FORMATS: Mapping[str, str] = {
    "/v1/chat/completions": "chat_completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages",
}
"""Wire format of each route that has one."""
ADMIN_ROUTES = frozenset({"/v1/keys", "/v1/keys/disable", "/v1/keys/enable", "/v1/reload", "/v1/trial", "/v1/export"})
ROUTES = frozenset(
    {
        *FORMATS,
        *ADMIN_ROUTES,
        "/v1/models",
        "/v1/route",
        "/v1/feedback",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/metrics",
        "/",
    }
)
"""Routes that are named in metrics and log lines; every other path is ``other``."""
OTHER = "other"
NONE = "none"
LEFT = 499
"""Status of a request whose client left before its answer (nginx's number)."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_SLOT = "semroute.record"


@dataclass(slots=True)
class ServedRecord:
    """One request of a client, filled while it is served.

    Attributes:
        id: request id, the client's own where it is short and plain.
        route: its path, one of :data:`ROUTES` or ``other``.
        method: HTTP method.
        at: when it arrived, seconds since the epoch.
        started: the same on the monotonic clock.
        status: HTTP status of the answer; 0 before there is one.
        streaming: whether a stream was asked for.
        asked: model name that the client asked for.
        key: name of its virtual key.
        decision: where the router sent it.
        completion: the answer.
        error: class of the error that it ended with.
        rejection: reason for which the gateway itself refused it, of a closed set.
        first_token_s: seconds to the first piece of a streamed answer.
        usd: what it cost, as far as prices are known.
    """

    id: str
    route: str
    method: str
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    status: int = 0
    streaming: bool = False
    asked: str | None = None
    key: str | None = None
    decision: Decision | None = None
    completion: Completion | None = None
    error: str | None = None
    rejection: str | None = None
    first_token_s: float | None = None
    usd: float | None = None

    @property
    def format(self) -> str:
        """Wire format of the route, ``none`` where it has none."""
        return FORMATS.get(self.route, NONE)

    @property
    def usage(self) -> Usage | None:
        """Tokens of the answer, where the provider counted them."""
        return None if self.completion is None else self.completion.usage

    @property
    def model(self) -> str | None:
        """Model that answered, else the first candidate."""
        if self.completion is not None:
            return self.completion.model
        return None if self.decision is None else self.decision.model

    def elapsed_s(self) -> float:
        """Return the seconds since the request arrived."""
        return time.perf_counter() - self.started

    def called_by(self, key: VirtualKey | None) -> None:
        """Take the virtual key of the caller."""
        self.key = None if key is None else key.name

    def take_call(self, call: ServedCall) -> None:
        """Take the call that the body asked for."""
        self.asked, self.streaming = call.model, call.streaming

    def take_decision(self, decision: Decision) -> None:
        """Take the router's decision."""
        self.decision = decision

    def take(self, event: Delta | Completion) -> None:
        """Take a piece of the answer, or the whole."""
        if isinstance(event, Completion):
            self.completion = event
            self.decision = event.decision or self.decision
            cost = event.total_cost
            self.usd = None if cost is None else cost.usd
        elif self.first_token_s is None and event.is_answer:
            self.first_token_s = self.elapsed_s()

    def fail(self, error: BaseException, rejection: str | None = None) -> None:
        """Take the error that ended it, and what its attempts cost."""
        self.error, self.rejection = type(error).__name__, rejection
        if isinstance(error, DispatchError):
            cost = total_cost(error.attempts)
            self.usd = None if cost is None else cost.usd


def new_record(scope: MutableMapping[str, Any]) -> ServedRecord:
    """Return the record of a new request, kept in its ASGI scope."""
    path = scope.get("path", "")
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    record = ServedRecord(request_id(given[0] if given else b""), path if path in ROUTES else OTHER, scope["method"])
    scope[_SLOT] = record
    return record


def record_of(scope: MutableMapping[str, Any]) -> ServedRecord:
    """Return the record of a request under way, new where nobody keeps one."""
    record = scope.get(_SLOT)
    return record if isinstance(record, ServedRecord) else new_record(scope)


def request_id(given: bytes) -> str:
    """Return a client's request id, or a new one.

    A client's has at most 64 plain characters.

    What a client sends goes into log lines and an answer's headers: nothing else may stand in it.
    """
    text = given.decode("latin-1")
    return text if _ID.fullmatch(text) else f"req_{token_hex(12)}"

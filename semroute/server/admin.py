"""Administration over HTTP: keys, trial share, reload and export.

Each needs a right of its own.

What changes something, an export, and every refusal is a line of the audit log, written before it is done: where the
log cannot be written, nothing is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol, cast, runtime_checkable

from semroute.errors import InputError, SemrouteError, StateError
from semroute.outcomes.log import OutcomeLog
from semroute.outcomes.log.reader import as_dict
from semroute.outcomes.log.redaction import RedactionPolicy
from semroute.router import Router
from semroute.router.experiment import read_share
from semroute.server.audit import AuditEvent, AuditLog, caller_of
from semroute.server.callers import CallerLimitError, ForbiddenError, check_right
from semroute.server.keys import KeyRing, Right, VirtualKey, disable_key, read_keys
from semroute.storage import json_line
from semroute.types import LoggedOutcome
from semroute.workflows.experiment import comparison_card, write_share

EXPORTED = 10_000
"""Outcomes of an export that names no limit."""
MOST_EXPORTED = 100_000
PORTION = 200
"""Outcomes that are read, and sent, at once."""
BUSY_S = 5.0
"""Wait that is hinted at while another export runs, seconds."""
_UNQUOTED = RedactionPolicy(text="none")


@dataclass(frozen=True, slots=True)
class AdminCaller:
    """Caller of an administrative route.

    Attributes:
        key: its key; None where no keys are used.
        source: address of the client.
        request_id: of the request.
    """

    key: VirtualKey | None
    source: str
    request_id: str


@runtime_checkable
class ReadableLog(Protocol):
    """Log that can be exported."""

    def outcomes(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[LoggedOutcome]:
        """Yield outcomes, oldest first."""
        ...


class Administration:
    """Handlers of the administrative routes over one router.

    Args:
        router: serves.
        keys: virtual keys.
        reload: loads configuration and index anew; returns what was done.
    """

    def __init__(self, router: Router, keys: KeyRing, reload: Callable[[], Awaitable[Mapping[str, object]]]) -> None:
        self._router, self._keys, self._reload = router, keys, reload
        self._audit = AuditLog.of_keys(keys.path)
        self._is_exporting = False

    async def list_keys(self, caller: AdminCaller, _: Mapping[str, Any]) -> Mapping[str, object]:
        """List the keys with their spending of this month, without secrets."""
        await self._check(caller, "keys", "keys.list")
        keys = await asyncio.to_thread(read_keys, self._keys.path)
        statuses = await self._router.dispatcher.gates.statuses([key.endpoint for key in keys])
        rows = [{**key.to_dict(), "spent_usd": one.spent_usd} for key, one in zip(keys, statuses, strict=True)]
        return {"keys": rows}

    async def disable(self, caller: AdminCaller, body: Mapping[str, Any]) -> Mapping[str, object]:
        """Refuse a key until it is enabled again."""
        return await self._switch(caller, body, disabled=True)

    async def enable(self, caller: AdminCaller, body: Mapping[str, Any]) -> Mapping[str, object]:
        """Take a disabled key again."""
        return await self._switch(caller, body, disabled=False)

    async def _switch(self, caller: AdminCaller, body: Mapping[str, Any], *, disabled: bool) -> Mapping[str, object]:
        action = "keys.disable" if disabled else "keys.enable"
        await self._check(caller, "keys", action)
        name = body.get("key")
        if not isinstance(name, str) or not name:
            raise InputError("key: is missing; it is the name or the id of a key that GET /v1/keys lists")
        async with self._audited(caller, action, {"key": name[:100]}):
            key = await asyncio.to_thread(disable_key, self._keys.path, name, disabled=disabled)
        return key.to_dict()

    async def reload(self, caller: AdminCaller, _: Mapping[str, Any]) -> Mapping[str, object]:
        """Load configuration and index anew."""
        await self._check(caller, "reload", "reload")
        async with self._audited(caller, "reload"):
            return await self._reload()

    async def trial(self, caller: AdminCaller, _: Mapping[str, Any]) -> Mapping[str, object]:
        """Show the policy on trial, its share, and its comparison card."""
        await self._check(caller, "trial", "trial.read")
        section = self._router.config.trial
        try:
            share = await asyncio.to_thread(read_share, section.state, section.share)
        except (OSError, ValueError):
            raise StateError("the file with the share of the trial cannot be read") from None
        log = self._router.log
        card = None
        if isinstance(log, OutcomeLog):
            card = await asyncio.to_thread(comparison_card, self._router.config, log)
        compared = {} if card is None else {"compared": {**card.to_dict(), "max_usd": section.max_usd}}
        return {"policy": None if section.policy is None else section.policy.name, "share": share, **compared}

    async def set_trial(self, caller: AdminCaller, body: Mapping[str, Any]) -> Mapping[str, object]:
        """Set the share of the queries that the policy on trial decides."""
        await self._check(caller, "trial", "trial.share")
        share = body.get("share")
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise InputError("share: is not a number from 0 to 1")
        async with self._audited(caller, "trial.share", {"share": share}):
            policy = await asyncio.to_thread(write_share, self._router.config.trial, share)
        return {"policy": policy.name, "share": share}

    async def export(self, caller: AdminCaller, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Return logged outcomes as JSON lines, oldest first, a portion at a time.

        They are those of ``semroute log export`` without providers' words, which are for the caller whose call it was:
        errors have their kind alone, and reasons end at the colon behind which one may be quoted.
        """
        await self._check(caller, "export", "export")
        since, until, limit = _moment(query, "since"), _moment(query, "until"), _limit(query)
        log = self._router.log
        if not isinstance(log, ReadableLog):
            raise InputError("nothing is logged here that could be exported; add log: {enabled: true} to semroute.yaml")
        if self._is_exporting:
            raise CallerLimitError("another export is running; ask again when it has ended", BUSY_S)
        details = {name: value for name, value in query.items() if name in ("since", "until", "limit")}
        async with self._audited(caller, "export", details):
            return self._exported(islice(log.outcomes(since, until), limit))

    async def _exported(self, outcomes: Iterator[LoggedOutcome]) -> AsyncIterator[bytes]:
        self._is_exporting = True
        try:
            while lines := await asyncio.to_thread(_lines, outcomes):
                yield lines
        finally:
            self._is_exporting = False

    async def _check(self, caller: AdminCaller, right: Right, action: str) -> None:
        """Refuse a caller without a right, which the audit log keeps.

        Raises:
            ForbiddenError: it is not there.
        """
        try:
            check_right(caller.key, right)
        except ForbiddenError:
            if caller.key is not None:
                await self._note(caller, action, allowed=False)
            raise

    @asynccontextmanager
    async def _audited(
        self, caller: AdminCaller, action: str, details: Mapping[str, object] | None = None
    ) -> AsyncIterator[None]:
        """Note an action before it is done, and again if it fails."""
        await self._note(caller, action, details)
        try:
            yield
        except SemrouteError as error:
            await self._note(caller, action, details, failed=type(error).__name__)
            raise

    async def _note(
        self,
        caller: AdminCaller,
        action: str,
        details: Mapping[str, object] | None = None,
        *,
        allowed: bool = True,
        failed: str | None = None,
    ) -> None:
        event = AuditEvent(action, caller_of(caller.key), caller.source, allowed, details, caller.request_id, failed)
        await asyncio.to_thread(self._audit.append, event)


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    given = query.get(name)
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise InputError(f"{name}: is no time; write it as 2026-01-31T12:00:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _limit(query: Mapping[str, str]) -> int:
    given = query.get("limit", str(EXPORTED))
    if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:9]) <= MOST_EXPORTED:
        raise InputError(f"limit: is not a number from 1 to {MOST_EXPORTED}")
    return int(given[:9])


def _lines(outcomes: Iterator[LoggedOutcome]) -> bytes:
    """Return the lines of the next portion; empty at the end."""
    return "".join(json_line(_without_quotes(one)) + "\n" for one in islice(outcomes, PORTION)).encode()


def _without_quotes(outcome: LoggedOutcome) -> Mapping[str, object]:
    """Return an outcome without what a provider may have written about it."""
    values = as_dict(outcome)
    for row in (values, *values["calls"], *values["checks"], *values["trials"], *values["opinions"]):
        row = cast(dict[str, Any], row)
        if row.get("error") is not None:
            row["error"] = None
        if isinstance(row.get("reason"), str):
            row["reason"] = _UNQUOTED.reason(row["reason"])
    return values

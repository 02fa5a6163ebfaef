"""How the places stand, for ``semroute providers status``: from shared state, or from what a process left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from semroute.config import Config
from semroute.dispatch.plan import place_of
from semroute.errors import DataError, InputError
from semroute.resilience import MemoryGates
from semroute.resilience.latency import LatencyWindows
from semroute.resilience.open import open_gates
from semroute.types import Gates, Place
from semroute.whole import read_json, whole_file

STATE_FILE = Path(".semroute/state.json")
"""Where the command line leaves its state, relative to the working folder."""


KEYS = {"at", "places", "latencies"}


def places_of(config: Config) -> list[Place]:
    """Every deployment with every one of its credentials, in the order of the file."""
    return [
        place_of(deployment, credential, config)
        for deployment in config.deployments
        for credential in deployment.api_key_env or (None,)
    ]


async def describe(gates: Gates, latencies: LatencyWindows, config: Config) -> dict[str, Any]:
    """The standing of every place and the latencies of this process, ready for JSON."""
    places = places_of(config)
    standings = await gates.standings(places)
    rows = [
        {"deployment": place.deployment, "credential": place.credential, **standing._asdict()}
        for place, standing in zip(places, standings, strict=True)
    ]
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "places": rows, "latencies": latencies.snapshot()}


def save_state(path: Path, gates: MemoryGates, description: Mapping[str, Any]) -> None:
    """Write the state of this process, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**description, "gates": gates.snapshot()}, indent=1)
    with whole_file(path) as part:
        part.write_text(content, encoding="utf-8")


def restore_state(path: Path, gates: MemoryGates) -> None:
    """Go on from what the month has cost by the file; without a file from nothing.

    Raises:
        DataError: the file is not one that :func:`save_state` wrote.
    """
    saved = _read(path)
    if saved is not None:
        try:
            gates.restore(saved["gates"])
        except DataError as error:
            raise DataError("not a saved state of semroute; delete it", path=path) from error


async def read_status(config: Config, env: Mapping[str, str], *, file: Path = STATE_FILE) -> dict[str, Any]:
    """What is known of the places: ``source``, ``places``, ``latencies``.

    Raises:
        DataError: the saved state cannot be read.
    """
    gates = open_gates(config, env)
    if isinstance(gates, MemoryGates):
        saved = _read(file)
        if saved is None:
            source = f"no saved state in {file}: nothing was called from this folder yet"
            return {"source": source, **await describe(gates, LatencyWindows(), config)}
        found = {key: saved[key] for key in ("at", "places", "latencies")}
        return {"source": f"state of one process, saved {saved['at']} in {file}", **found}
    try:
        found = await describe(gates, LatencyWindows(), config)
        published = await gates.read_snapshots()
    finally:
        await gates.close()
    source = f"shared state in {config.state}" if gates.mode == "shared" else f"{config.state} does not answer"
    return {**found, "source": source, "latencies": _of_replicas(published)}


async def enable_credential(config: Config, env: Mapping[str, str], credential: str) -> None:
    """Let a disabled credential be called again by every replica.

    Raises:
        InputError: no deployment uses it, or the state is in process, where there is nothing to enable.
        StateError: Redis is away.
    """
    known = sorted({variable for deployment in config.deployments for variable in deployment.api_key_env})
    if credential not in known:
        # The word is not repeated: a key that was pasted for its variable's name must not reach a log.
        raise InputError(f"no deployment uses a key of that name; there are {', '.join(known) or 'none'}")
    gates = open_gates(config, env)
    if isinstance(gates, MemoryGates):
        raise InputError(
            "the state is in process (state: memory): restart the process, or put the new key in its place"
        )
    try:
        await gates.enable(credential)
    finally:
        await gates.close()


def _of_replicas(published: Mapping[str, Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [
        {**row, "replica": replica} for replica, snapshot in published.items() for row in snapshot.get("latencies", ())
    ]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        saved: Any = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"the saved state cannot be read ({type(error).__name__}); delete it", path=path) from error
    if not isinstance(saved, dict) or not isinstance(saved.get("gates"), dict) or not saved.keys() >= KEYS:
        raise DataError("not a saved state of semroute; delete it", path=path)
    return saved

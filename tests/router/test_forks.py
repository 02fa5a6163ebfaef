"""A forked child answers, whatever its parent has done before and is doing at that moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from resilience.redis_server import OwnRedis, own_redis

from semroute.config import Log
from semroute.outcomes.log import open_log
from semroute.testing import FakeProvider

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PROGRAM = Path(__file__).with_name("forking.py")


def forked(folder: Path, log: Path, provider: FakeProvider, *options: str, **sections: Any) -> list[dict[str, Any]]:
    """What each process of the program said; one that hung said nothing."""
    places = [{"name": model, "model": model, "base_url": provider.base_url} for model in ("small", "large", "coder")]
    config = {"deployments": places, "log": {"url": f"sqlite:///{log}"}, **sections}
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "TOKENIZERS_PARALLELISM": "true"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), str(folder), json.dumps(config), *options],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    return sorted(map(json.loads, run.stdout.splitlines()), key=lambda told: str(told["name"]))


def check(told: list[dict[str, Any]], log: Path) -> None:
    assert [one["name"] for one in told] == ["after", "before", "child0", "child1"]
    for one in told:
        name = one["name"]
        assert (one["route"], one["many"], one["logged"]) == ("code", 60, True)
        assert (one["complete"], one["stream"]) == (f"{name} recipe for soup", f"{name} recipe for bread")
    with open_log(Log(url=f"sqlite:///{log}"), {}) as kept:
        queries = [str(one.query) for one in kept.outcomes()]
    for name in ("after", "before", "child0", "child1"):
        assert len([query for query in queries if query.startswith(f"{name} ")]) == 63


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("busy",), ("large",), ("busy", "large")], ids=" ".join)
def test_every_door_opens_in_a_forked_child(
    options: tuple[str, ...], routing_index: Path, tmp_path: Path, provider: FakeProvider
) -> None:
    told = forked(routing_index, tmp_path / "log.db", provider, *options)
    check(told, tmp_path / "log.db")
    assert len({one["draw"] for one in told}) == 4


@pytest.mark.slow
@pytest.mark.services
def test_children_are_replicas_of_their_own_in_redis(
    routing_index: Path, tmp_path: Path, provider: FakeProvider
) -> None:
    redis: OwnRedis
    with own_redis() as redis:
        told = forked(routing_index, tmp_path / "log.db", provider, state=redis.url)
        check(told, tmp_path / "log.db")
    replicas = {one["name"]: one["replica"] for one in told}
    assert replicas["before"] == replicas["after"]
    assert len(set(replicas.values())) == 3

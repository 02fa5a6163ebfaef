from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from resilience.redis_server import own_redis

from semroute.config import Config
from semroute.errors import ConfigError, MissingExtraError
from semroute.resilience import MemoryGates
from semroute.resilience.gates import open_gates
from semroute.resilience.redis.failover import FailoverGates
from semroute.types import CallResult, Endpoint, Permit


def test_without_a_redis_in_the_configuration_state_is_in_process() -> None:
    assert isinstance(open_gates(Config(), {}), MemoryGates)


@pytest.mark.services
def test_the_address_and_the_passwords_variable_of_the_configuration_are_used() -> None:
    async def test(config: Config) -> None:
        gates = open_gates(config, {"REDIS_PASSWORD": "open-sesame"})
        assert isinstance(gates, FailoverGates)
        permit = await gates.acquire(Endpoint("p"), 10)
        assert isinstance(permit, Permit)
        await gates.release(permit, CallResult.SUCCESS)
        assert gates.mode == "shared"
        await gates.close()

    with own_redis("open-sesame") as running:
        asyncio.run(test(Config(state=running.url, state_password_env="REDIS_PASSWORD")))


def test_a_password_that_is_not_set_is_said_before_anything_is_called() -> None:
    config = Config(state="redis://localhost", state_password_env="REDIS_PASSWORD")
    with pytest.raises(ConfigError, match="REDIS_PASSWORD is not set"):
        open_gates(config, {})


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(MissingExtraError, match=r"semroute-router\[redis\]"):
        open_gates(Config(state="redis://localhost"), {})


@pytest.mark.slow
def test_state_in_process_never_imports_redis() -> None:
    program = (
        "import sys; from semroute.config import Config; from semroute.resilience.gates import open_gates;"
        "open_gates(Config(), {}); assert 'redis' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

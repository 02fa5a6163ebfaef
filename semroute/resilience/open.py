"""The gates that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from semroute.config import Config
from semroute.errors import ConfigError
from semroute.resilience.memory import MemoryGates

if TYPE_CHECKING:
    from semroute.resilience.shared.failover import FailoverGates


def open_gates(config: Config, env: Mapping[str, str]) -> MemoryGates | FailoverGates:
    """Gates in this process, or in the Redis of ``config.state``. Connects to nothing yet.

    Args:
        config: a valid configuration.
        env: holds the password of the Redis, under the name that the configuration gives.

    Raises:
        ConfigError: the password's variable is not set.
        MissingExtraError: the state is in Redis, and the extra "redis" is not installed.
    """
    if config.state == "memory":
        return MemoryGates(config.breaker)
    from semroute.resilience.shared.failover import FailoverGates
    from semroute.resilience.shared.gates import RedisGates
    from semroute.resilience.shared.replicas import Replicas
    from semroute.resilience.shared.server import Server

    password, variable = None, config.state_password_env
    if variable is not None:
        password = env.get(variable, "").strip()
        if not password:
            raise ConfigError(f"{variable} is not set; export {variable}", key="state_password_env")
    server = Server(config.state, password=password, timeout_s=config.state_timeout_s)
    return FailoverGates(RedisGates(server, config.breaker), Replicas(server), lambda: MemoryGates(config.breaker))

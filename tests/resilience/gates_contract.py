"""What any implementation of ``AdmissionControl`` must do, whatever keeps its state.

To hold an implementation to it, subclass :class:`GatesContract` in a test module, name the subclass ``Test...`` and
implement :meth:`~resilience.gates_world.Contract.world`::

    from resilience.gates_contract import GatesContract
    from resilience.gates_world import World

    class TestMemoryGates(GatesContract):
        @asynccontextmanager
        async def world(self, rules: BreakerRules) -> AsyncGenerator[World]:
            ...

Time only has to go forward: real time may pass besides what :meth:`~resilience.gates_world.World.advance` adds, as long
as it is far less than half a second in a test.
"""

from __future__ import annotations

from resilience.breaker_contract import BreakerContract
from resilience.limits_contract import LimitsContract


class GatesContract(BreakerContract, LimitsContract):
    """Subclass it, see the module's docstring."""

"""What any implementation of ``AdmissionControl`` must do about failures, whatever keeps its state."""

from __future__ import annotations

import pytest
from resilience.gates_world import (
    PLACE,
    RULES,
    SLACK_S,
    STRICT,
    Contract,
    World,
    end,
    entered,
    half_opened,
    opened,
    refused,
    state,
    status,
    wait_of,
)

from semroute.resilience.breaker import digest_key
from semroute.types import BreakerState, CallResult, Endpoint, EndpointStatus, Permit, Rejection


class BreakerContract(Contract):
    """Breaker, panic and refused keys."""

    # The breaker.

    def test_a_place_that_was_never_called_stands_open_to_calls(self) -> None:
        async def test(world: World) -> None:
            assert await world.gates.statuses([PLACE, Endpoint("other")], 1000, 0.5) == [
                EndpointStatus(),
                EndpointStatus(),
            ]
            assert await world.gates.statuses([]) == []

        self.run(test)

    def test_failures_in_a_row_open_it_and_the_refusal_says_for_how_long(self) -> None:
        async def test(world: World) -> None:
            await end(world.gates, [CallResult.FAILURE] * (RULES.in_a_row - 1))
            assert await state(world.gates) is BreakerState.CLOSED
            await end(world.gates, [CallResult.FAILURE])
            found = await status(world.gates)
            assert found.breaker is BreakerState.OPEN
            assert found.reason
            assert wait_of(found) == pytest.approx(RULES.open_s, abs=SLACK_S)
            assert wait_of(await refused(world.gates)) == pytest.approx(RULES.open_s, abs=SLACK_S)

        self.run(test)

    def test_a_success_breaks_the_row(self) -> None:
        async def test(world: World) -> None:
            for _ in range(2):
                await end(world.gates, [CallResult.FAILURE] * (RULES.in_a_row - 1))
                await end(world.gates, [CallResult.SUCCESS])
            assert await state(world.gates) is BreakerState.CLOSED

        self.run(test)

    def test_half_of_twenty_calls_open_it(self) -> None:
        async def test(world: World) -> None:
            await end(world.gates, [CallResult.SUCCESS, CallResult.FAILURE] * 9 + [CallResult.SUCCESS])
            found = await status(world.gates)
            assert found.breaker is BreakerState.CLOSED
            assert (found.calls, found.failure_share) == (19, pytest.approx(9 / 19))
            await end(world.gates, [CallResult.FAILURE])
            assert await state(world.gates) is BreakerState.OPEN

        self.run(test)

    def test_calls_older_than_the_window_do_not_count(self) -> None:
        async def test(world: World) -> None:
            await end(world.gates, [CallResult.SUCCESS, CallResult.FAILURE] * 9)
            await world.advance(RULES.window_s + SLACK_S)
            await end(world.gates, [CallResult.SUCCESS, CallResult.FAILURE] * 9)
            found = await status(world.gates)
            assert (found.breaker, found.calls) == (BreakerState.CLOSED, 18)

        self.run(test)

    def test_neutral_endings_count_neither_way(self) -> None:
        async def test(world: World) -> None:
            await end(world.gates, [CallResult.FAILURE, CallResult.NEUTRAL, CallResult.NEUTRAL] * (RULES.in_a_row - 1))
            found = await status(world.gates)
            assert (found.breaker, found.calls) == (BreakerState.CLOSED, RULES.in_a_row - 1)
            await end(world.gates, [CallResult.FAILURE])
            assert await state(world.gates) is BreakerState.OPEN

        self.run(test)

    def test_a_breaker_is_of_one_deployment_with_one_credential(self) -> None:
        async def test(world: World) -> None:
            await opened(world.gates)
            await entered(world.gates, Endpoint(PLACE.deployment, "OTHER_KEY"))
            await entered(world.gates, Endpoint("other", PLACE.credential))

        self.run(test)

    def test_it_stays_open_for_its_time_and_then_lets_as_many_probes_through_as_the_rules_say(self) -> None:
        async def test(world: World) -> None:
            await opened(world.gates)
            await world.advance(RULES.open_s - SLACK_S)
            await refused(world.gates)
            await world.advance(SLACK_S)
            probes = [await entered(world.gates) for _ in range(RULES.probes)]
            assert all(probe.is_probe for probe in probes)
            assert wait_of(await refused(world.gates)) > 0
            await world.gates.release(probes[0], CallResult.SUCCESS)
            assert (await entered(world.gates)).is_probe

        self.run(test)

    def test_successful_probes_close_it_and_its_traffic_grows_back(self) -> None:
        async def test(world: World) -> None:
            await half_opened(world)
            await end(world.gates, [CallResult.SUCCESS] * (RULES.successes - 1))
            assert await state(world.gates) is BreakerState.HALF_OPEN
            await end(world.gates, [CallResult.SUCCESS])
            ramps = []
            for _ in range(4):
                found = await status(world.gates)
                assert found.breaker is BreakerState.CLOSED
                ramps.append(found.ramp)
                await world.advance(RULES.ramp_s / 3)
            assert 0 < ramps[0] < ramps[1] < ramps[2] < 1
            assert ramps[3] == 1.0
            assert not (await entered(world.gates)).is_probe

        self.run(test)

    def test_what_failed_before_it_closed_is_forgotten(self) -> None:
        async def test(world: World) -> None:
            await half_opened(world)
            await end(world.gates, [CallResult.SUCCESS] * RULES.successes)
            await end(world.gates, [CallResult.FAILURE] * (RULES.in_a_row - 1))
            assert await state(world.gates) is BreakerState.CLOSED

        self.run(test)

    def test_failed_probes_open_it_for_twice_as_long_up_to_the_longest_time(self) -> None:
        async def test(world: World) -> None:
            await opened(world.gates)
            for expected in (10.0, 20.0, 40.0, 50.0, 50.0):
                await world.advance(wait_of(await status(world.gates)))
                await end(world.gates, [CallResult.FAILURE] * RULES.failed_probes)
                found = await status(world.gates)
                assert found.breaker is BreakerState.OPEN
                assert wait_of(found) == pytest.approx(expected, abs=SLACK_S)

        self.run(test, RULES.model_copy(update={"most_open_s": 50.0}))

    def test_jitter_spreads_the_time_open_and_keeps_below_the_longest(self) -> None:
        async def test(world: World) -> None:
            endpoints = [Endpoint(f"place-{number}") for number in range(20)]
            for endpoint in endpoints:
                await opened(world.gates, endpoint)
            waits = [wait_of(found) for found in await world.gates.statuses(endpoints)]
            assert all(2.5 - SLACK_S <= wait <= 5.0 for wait in waits)
            assert max(waits) - min(waits) > 0.2

        self.run(test, RULES.model_copy(update={"jitter": 0.5, "most_open_s": 5.0}))

    def test_two_probes_that_fail_double_the_time_once(self) -> None:
        async def test(world: World) -> None:
            await half_opened(world)
            for probe in [await entered(world.gates) for _ in range(2)]:
                await world.gates.release(probe, CallResult.FAILURE)
            assert wait_of(await status(world.gates)) == pytest.approx(2 * RULES.open_s, abs=SLACK_S)

        self.run(test, STRICT)

    def test_a_probe_that_still_runs_when_another_fails_counts_towards_the_next_probes(self) -> None:
        async def test(world: World) -> None:
            await half_opened(world)
            slow, failing = [await entered(world.gates) for _ in range(2)]
            await world.gates.release(failing, CallResult.FAILURE)
            await world.advance(2 * RULES.open_s)
            probe = await entered(world.gates)
            await refused(world.gates)
            await world.gates.release(slow, CallResult.FAILURE)
            assert await state(world.gates) is BreakerState.HALF_OPEN
            await entered(world.gates)
            await world.gates.release(probe, CallResult.NEUTRAL)

        self.run(test, STRICT)

    def test_a_probe_that_is_cancelled_gives_its_lease_back(self) -> None:
        async def test(world: World) -> None:
            await half_opened(world)
            for _ in range(5):
                for probe in [await entered(world.gates) for _ in range(RULES.probes)]:
                    await world.gates.release(probe, CallResult.NEUTRAL, tokens=0, usd=0.0)
            assert await state(world.gates) is BreakerState.HALF_OPEN

        self.run(test)

    def test_a_probe_that_never_comes_back_loses_its_lease(self) -> None:
        async def test(world: World) -> None:
            await half_opened(world)
            lost = [await entered(world.gates) for _ in range(RULES.probes)]
            await world.advance(RULES.probe_lease_s - SLACK_S)
            await refused(world.gates)
            await world.advance(SLACK_S)
            probes = [await entered(world.gates) for _ in range(RULES.probes)]
            await refused(world.gates)
            for late in lost:
                await world.gates.release(late, CallResult.FAILURE)
            assert await state(world.gates) is BreakerState.HALF_OPEN
            await refused(world.gates)
            for probe in probes:
                await world.gates.release(probe, CallResult.SUCCESS)
            await end(world.gates, [CallResult.SUCCESS])
            assert await state(world.gates) is BreakerState.CLOSED

        self.run(test)

    def test_calls_that_began_before_it_opened_change_nothing_after(self) -> None:
        async def test(world: World) -> None:
            late = [await entered(world.gates) for _ in range(12)]
            await opened(world.gates)
            await world.gates.release(late.pop(), CallResult.SUCCESS)
            await world.gates.release(late.pop(), CallResult.FAILURE)
            found = await status(world.gates)
            assert found.breaker is BreakerState.OPEN
            assert wait_of(found) == pytest.approx(RULES.open_s, abs=SLACK_S)
            await world.advance(RULES.open_s)
            for result in [CallResult.SUCCESS] * 3 + [CallResult.FAILURE]:
                await world.gates.release(late.pop(), result)
            assert await state(world.gates) is BreakerState.HALF_OPEN
            await end(world.gates, [CallResult.SUCCESS] * RULES.successes)
            while late:
                await world.gates.release(late.pop(), CallResult.FAILURE)
            assert await state(world.gates) is BreakerState.CLOSED

        self.run(test)

    def test_a_credential_that_cannot_work_closes_all_its_places_until_it_is_enabled(self) -> None:
        async def test(world: World) -> None:
            sibling, other = Endpoint("openai-large", PLACE.credential), Endpoint("other", "OTHER_KEY")
            running = await entered(world.gates)
            await world.gates.release(await entered(world.gates), CallResult.DISABLE, reason="401: key revoked")
            for endpoint in (PLACE, sibling):
                found = await status(world.gates, endpoint)
                assert (found.breaker, found.wait_s) == (BreakerState.DISABLED, None)
                assert "401: key revoked" in (found.reason or "")
                refusal = await refused(world.gates, endpoint)
                assert refusal.wait_s is None
                assert "401: key revoked" in refusal.reason
            await entered(world.gates, other)
            await world.gates.release(running, CallResult.SUCCESS)
            await world.advance(24 * 3600.0)
            assert await state(world.gates) is BreakerState.DISABLED
            await world.gates.enable(PLACE.credential)
            assert await state(world.gates) is BreakerState.CLOSED
            await entered(world.gates, sibling)

        self.run(test)

    def test_a_place_without_a_key_is_disabled_alone(self) -> None:
        async def test(world: World) -> None:
            one, other = Endpoint("vllm-one"), Endpoint("vllm-two")
            await end(world.gates, [CallResult.DISABLE], one)
            assert await state(world.gates, one) is BreakerState.DISABLED
            assert await state(world.gates, other) is BreakerState.CLOSED
            await world.gates.enable(None)
            assert await state(world.gates, one) is BreakerState.CLOSED

        self.run(test)

    def test_a_half_open_breaker_is_judged_by_a_ratio_and_not_by_one_call(self) -> None:
        async def test(world: World) -> None:
            await half_opened(world)
            await end(
                world.gates,
                [CallResult.FAILURE, CallResult.SUCCESS, CallResult.FAILURE, CallResult.SUCCESS, CallResult.SUCCESS],
            )
            assert await state(world.gates) is BreakerState.CLOSED
            await end(world.gates, [CallResult.FAILURE] * RULES.in_a_row)
            await world.advance(RULES.open_s)
            await end(
                world.gates,
                [CallResult.SUCCESS, CallResult.FAILURE, CallResult.SUCCESS, CallResult.FAILURE, CallResult.FAILURE],
            )
            found = await status(world.gates)
            assert found.breaker is BreakerState.OPEN
            assert "3 of 5 probes failed" in (found.reason or "")

        self.run(test)

    # Panic: nothing else can be called.

    def test_in_panic_an_open_breaker_lets_a_call_a_second_through(self) -> None:
        async def test(world: World) -> None:
            await opened(world.gates)
            for _ in range(3):
                permit = await world.gates.acquire(PLACE, 0, panic=0.99)
                assert isinstance(permit, Permit)
                assert (permit.is_panic, permit.is_probe) == (True, False)
                await world.gates.release(permit, CallResult.FAILURE)
                assert isinstance(await world.gates.acquire(PLACE, 0, panic=0.2), Rejection)
                await refused(world.gates)
                await world.advance(1.0 / RULES.panic_per_s)
            assert await state(world.gates) is BreakerState.OPEN

        self.run(test)

    def test_in_panic_the_share_grows_with_what_is_answered(self) -> None:
        async def test(world: World) -> None:
            await end(world.gates, [CallResult.SUCCESS, *[CallResult.FAILURE] * 4] * 3 + [CallResult.FAILURE])
            assert await state(world.gates) is BreakerState.OPEN
            assert isinstance(await world.gates.acquire(PLACE, 0, panic=0.0), Permit)  # the one of this second
            assert isinstance(await world.gates.acquire(PLACE, 0, panic=0.71), Permit)  # (4 * 3 + 1) / (17 + 1) is 0.72
            assert isinstance(
                await world.gates.acquire(PLACE, 0, panic=0.71), Rejection
            )  # the two are not answered yet

        self.run(test)

    def test_good_calls_in_panic_end_the_time_open(self) -> None:
        async def test(world: World) -> None:
            await opened(world.gates)
            for _ in range(RULES.successes):
                assert await state(world.gates) is BreakerState.OPEN
                permit = await world.gates.acquire(PLACE, 0, panic=0.0)
                assert isinstance(permit, Permit)
                await world.gates.release(permit, CallResult.SUCCESS)
            await end(world.gates, [CallResult.SUCCESS] * RULES.successes)
            assert await state(world.gates) is BreakerState.CLOSED

        self.run(test, RULES.model_copy(update={"open_s": 300.0}))

    def test_without_panic_in_the_rules_none_is_let_through(self) -> None:
        async def test(world: World) -> None:
            await opened(world.gates)
            assert isinstance(await world.gates.acquire(PLACE, 0, panic=0.0), Rejection)

        self.run(test, RULES.model_copy(update={"panic_per_s": 0.0}))

    def test_panic_opens_no_suspended_and_no_disabled_place(self) -> None:
        async def test(world: World) -> None:
            running = await entered(world.gates)
            await opened(world.gates)
            await world.gates.release(running, CallResult.SUSPEND)
            assert isinstance(await world.gates.acquire(PLACE, 0, panic=0.0), Rejection)

        self.run(test)

    # Refused keys.

    def test_a_refused_endpoint_is_closed_for_minutes_alone_and_then_tried_with_one_call(self) -> None:
        async def test(world: World) -> None:
            sibling = Endpoint("openai-large", PLACE.credential)
            late = await entered(world.gates)
            await world.gates.release(await entered(world.gates), CallResult.SUSPEND, reason="403: not in this region")
            found = await status(world.gates)
            assert found.breaker is BreakerState.SUSPENDED
            assert wait_of(found) == pytest.approx(RULES.suspend_s, abs=SLACK_S)
            assert "403: not in this region" in (await refused(world.gates)).reason
            await end(world.gates, [CallResult.SUCCESS], sibling)
            await world.gates.release(late, CallResult.SUCCESS)  # it began before
            await world.advance(RULES.suspend_s)
            probe = await entered(world.gates)
            assert probe.is_probe
            assert 0 < wait_of(await refused(world.gates)) < 1
            await world.gates.release(probe, CallResult.SUCCESS)
            assert await status(world.gates) == EndpointStatus(calls=1)
            await entered(world.gates)

        self.run(test)

    def test_a_probe_that_is_refused_doubles_the_time_up_to_the_longest(self) -> None:
        async def test(world: World) -> None:
            for expected in (120.0, 240.0, 480.0, 500.0, 500.0):
                others = [await entered(world.gates) for _ in range(2)] if expected == 120.0 else []
                await end(world.gates, [CallResult.SUSPEND])
                for other in others:
                    await world.gates.release(other, CallResult.SUSPEND)
                assert wait_of(await status(world.gates)) == pytest.approx(expected, abs=SLACK_S)
                await world.advance(expected)
            await end(world.gates, [CallResult.SUCCESS, CallResult.SUSPEND])
            assert wait_of(await status(world.gates)) == pytest.approx(120.0, abs=SLACK_S)

        self.run(test, RULES.model_copy(update={"most_suspend_s": 500.0}))

    def test_a_probe_that_ends_otherwise_or_never_lets_the_next_one_through(self) -> None:
        async def test(world: World) -> None:
            await end(world.gates, [CallResult.SUSPEND])
            await world.advance(RULES.suspend_s)
            await end(world.gates, [CallResult.NEUTRAL, CallResult.FAILURE])
            lost = await entered(world.gates)
            await refused(world.gates)
            await world.advance(RULES.probe_lease_s)
            await end(world.gates, [CallResult.SUCCESS])
            await world.gates.release(lost, CallResult.NEUTRAL)
            assert await state(world.gates) is BreakerState.CLOSED

        self.run(test)

    def test_a_disabled_key_is_tried_once_in_a_long_while(self) -> None:
        async def test(world: World) -> None:
            sibling = Endpoint("openai-large", PLACE.credential)
            await end(world.gates, [CallResult.DISABLE])
            for result in (CallResult.DISABLE, CallResult.FAILURE, CallResult.SUCCESS):
                await world.advance(RULES.disabled_probe_s - SLACK_S)
                await refused(world.gates)
                await world.advance(SLACK_S)
                probe = await entered(world.gates)
                assert probe.is_probe
                for endpoint in (PLACE, sibling):
                    assert (await refused(world.gates, endpoint)).wait_s is None
                assert await state(world.gates) is BreakerState.DISABLED
                await world.gates.release(probe, result)
            await entered(world.gates, sibling)
            assert await state(world.gates) is BreakerState.CLOSED

        self.run(test)

    def test_a_key_is_disabled_at_the_host_that_refused_it(self) -> None:
        async def test(world: World) -> None:
            here, there = [Endpoint(name, "KEY", budget_usd=1.0, origin=f"https://{name}:443") for name in ("a", "b")]
            await end(world.gates, [CallResult.DISABLE], here)
            assert await state(world.gates, here) is BreakerState.DISABLED
            await entered(world.gates, there, usd=0.75)
            assert (await status(world.gates, here)).spent_usd == 0.75
            await world.gates.enable("KEY_OF_OTHERS")
            assert await state(world.gates, here) is BreakerState.DISABLED
            await world.gates.enable("KEY")
            assert await state(world.gates, here) is BreakerState.CLOSED

        self.run(test)

    def test_what_closed_a_place_for_one_key_is_lifted_for_another(self) -> None:
        async def test(world: World) -> None:
            for result in (CallResult.DISABLE, CallResult.SUSPEND):
                digest = digest_key("sk-old")
                assert digest is not None
                await world.gates.release(await entered(world.gates), result, refused=digest)
                assert (await status(world.gates)).refused == digest
                await world.gates.welcome(PLACE, "of:another")
                await refused(world.gates)
                await world.gates.welcome(PLACE, digest)
                await end(world.gates, [CallResult.NEUTRAL])
                assert (await status(world.gates)).refused is None

        self.run(test)

    def test_lifting_a_place_lifts_hint_breaker_suspension_and_disabled_key(self) -> None:
        async def test(world: World) -> None:
            for result in (CallResult.FAILURE, CallResult.SUSPEND, CallResult.DISABLE):
                running = [await entered(world.gates, usd=0.25) for _ in range(RULES.in_a_row)]
                late = await entered(world.gates)
                for permit in running:
                    await world.gates.release(permit, result, wait_s=1000.0)
                await refused(world.gates)
                await world.gates.lift([PLACE])
                found = await status(world.gates)
                assert (found.breaker, found.wait_s, found.ramp) == (BreakerState.CLOSED, 0.0, 1.0)
                await world.gates.release(late, CallResult.FAILURE)
            assert (await status(world.gates)).spent_usd == 3 * RULES.in_a_row * 0.25

        self.run(test)

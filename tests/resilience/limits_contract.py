"""What any implementation of ``AdmissionControl`` must do about limits, whatever keeps its state."""

from __future__ import annotations

import asyncio

import pytest
from resilience.gates_world import FORGOTTEN_S, RULES, SLACK_S, Contract, World, end, entered, refused, status, wait_of

from semroute.types import BreakerState, CallResult, Endpoint, Permit


class LimitsContract(Contract):
    """Hints, rate limits and budgets."""

    # The throttle.

    def test_a_hint_is_heeded_up_to_a_most_that_depends_on_its_cause(self) -> None:
        async def test(world: World) -> None:
            for result, most_s in (
                (CallResult.NEUTRAL, RULES.most_hint_s),
                (CallResult.FAILURE, RULES.most_failure_hint_s),
            ):
                for wait_s in (86400.0, 3.2e7, float("inf")):
                    endpoint = Endpoint(f"{result}-{wait_s}")
                    await world.gates.release(await entered(world.gates, endpoint), result, wait_s=wait_s)
                    assert wait_of(await status(world.gates, endpoint)) == pytest.approx(most_s, abs=SLACK_S)
            for wait_s in (-5.0, float("nan")):
                await world.gates.release(await entered(world.gates), CallResult.NEUTRAL, wait_s=wait_s)
                assert wait_of(await status(world.gates)) == 0.0

        self.run(test)

    def test_a_negative_reservation_lifts_nobodys_limit(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", tpm=1000, budget_usd=1.0)
            await entered(world.gates, endpoint, -(10**9), -5.0)
            await entered(world.gates, endpoint, 1000, 1.0)
            await refused(world.gates, endpoint, 1)
            assert (await status(world.gates, endpoint, -(10**9), -5.0)).spent_usd == 1.0
            other = await entered(world.gates, Endpoint("q", "OTHER", tpm=1000, budget_usd=1.0), 1000, 1.0)
            await world.gates.release(other, CallResult.SUCCESS, tokens=-(10**12), usd=-7.0)
            found = await status(world.gates, other.endpoint)
            assert (found.headroom, found.spent_usd) == (1.0, 0.0)

        self.run(test)

    def test_absurd_counts_close_nothing_and_the_reservation_stands(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", tpm=1000, budget_usd=1.0)
            for tokens, usd in ((10**12, 1e6), (10**30, 1e300), (None, float("inf")), (None, float("nan"))):
                permit = await entered(world.gates, endpoint, 100, 0.125)
                await world.gates.release(permit, CallResult.SUCCESS, tokens=tokens, usd=usd)
            found = await status(world.gates, endpoint)
            assert (found.headroom, found.spent_usd, found.wait_s) == (0.5, 0.5, 0.0)
            for tokens, usd in ((10**15, 0.0), (0, 1e12), (0, float("inf"))):
                await refused(world.gates, endpoint, tokens, usd)
                await entered(world.gates, Endpoint("unlimited"), tokens, usd)

        self.run(test)

    def test_requests_a_minute_are_kept_in_every_sliding_minute(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", rpm=3)
            await end(world.gates, [CallResult.SUCCESS], endpoint)
            await world.advance(20.0)
            await end(world.gates, [CallResult.SUCCESS] * 2, endpoint)
            assert wait_of(await refused(world.gates, endpoint)) == pytest.approx(40.0, abs=SLACK_S)
            await world.advance(40.0)
            await end(world.gates, [CallResult.SUCCESS], endpoint)
            assert wait_of(await refused(world.gates, endpoint)) == pytest.approx(20.0, abs=SLACK_S)

        self.run(test)

    def test_tokens_a_minute_are_kept_and_the_wait_is_for_as_many_as_are_asked_for(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", tpm=1000)
            await entered(world.gates, endpoint, 300)
            await world.advance(10.0)
            await entered(world.gates, endpoint, 700)
            assert wait_of(await refused(world.gates, endpoint, 1)) == pytest.approx(50.0, abs=SLACK_S)
            assert wait_of(await refused(world.gates, endpoint, 300)) == pytest.approx(50.0, abs=SLACK_S)
            assert wait_of(await refused(world.gates, endpoint, 301)) == pytest.approx(60.0, abs=SLACK_S)
            await entered(world.gates, endpoint, 0)
            await world.advance(wait_of(await refused(world.gates, endpoint, 300)))
            await entered(world.gates, endpoint, 300)
            await refused(world.gates, endpoint, 1)

        self.run(test)

    def test_a_refused_call_leaves_nothing_behind(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", rpm=10, tpm=1000, parallel=2, budget_usd=1.0)
            permit = await entered(world.gates, endpoint, 600, 0.5)
            before = await status(world.gates, endpoint)
            for _ in range(20):
                await refused(world.gates, endpoint, 401)
            after = await status(world.gates, endpoint)
            assert (after.headroom, after.in_flight, after.spent_usd) == (before.headroom, 1, 0.5)
            await world.gates.release(permit, CallResult.SUCCESS, tokens=0)
            await entered(world.gates, endpoint, 1000)

        self.run(test)

    def test_a_request_larger_than_the_limit_is_refused_for_good(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", tpm=1000)
            refusal = await refused(world.gates, endpoint, 1001)
            assert refusal.wait_s is None
            assert "1001" in refusal.reason
            found = await status(world.gates, endpoint, 1001)
            assert (found.wait_s, found.headroom) == (None, 0.0)
            await entered(world.gates, endpoint, 1000)

        self.run(test)

    def test_a_reservation_becomes_what_the_call_took(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", tpm=1000)
            less, more, unknown = [await entered(world.gates, endpoint, 300) for _ in range(3)]
            await world.gates.release(unknown, CallResult.SUCCESS)
            await refused(world.gates, endpoint, 101)
            await world.gates.release(less, CallResult.SUCCESS, tokens=100)
            await refused(world.gates, endpoint, 301)
            await world.gates.release(more, CallResult.SUCCESS, tokens=500)
            await refused(world.gates, endpoint, 101)
            await entered(world.gates, endpoint, 100)

        self.run(test)

    def test_more_than_was_reserved_is_counted_even_over_the_limit(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", tpm=1000)
            await world.gates.release(await entered(world.gates, endpoint, 100), CallResult.SUCCESS, tokens=1500)
            found = await status(world.gates, endpoint, 1)
            assert found.headroom == 0.0
            assert wait_of(found) == pytest.approx(60.0, abs=SLACK_S)

        self.run(test)

    def test_parallel_calls_are_kept_and_a_call_that_ends_makes_room(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", parallel=2)
            one, _ = [await entered(world.gates, endpoint) for _ in range(2)]
            assert wait_of(await refused(world.gates, endpoint)) > 0
            assert (await status(world.gates, endpoint)).in_flight == 2
            await world.gates.release(one, CallResult.NEUTRAL, tokens=0)
            await entered(world.gates, endpoint)
            await refused(world.gates, endpoint)

        self.run(test)

    def test_a_second_leave_does_nothing(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", tpm=1000, parallel=2, budget_usd=1.0)
            one, _ = [await entered(world.gates, endpoint, 400, 0.25) for _ in range(2)]
            await world.gates.release(one, CallResult.SUCCESS)
            before = await status(world.gates, endpoint)
            for result in [CallResult.FAILURE] * RULES.in_a_row + [CallResult.DISABLE]:
                await world.gates.release(one, result, tokens=0, usd=0.0, wait_s=60.0)
            assert await status(world.gates, endpoint) == before
            await refused(world.gates, endpoint, 201)

        self.run(test)

    def test_a_hint_closes_the_place_and_is_never_shortened(self) -> None:
        async def test(world: World) -> None:
            passes = [await entered(world.gates) for _ in range(4)]
            await world.gates.release(passes.pop(), CallResult.NEUTRAL, wait_s=30.0)
            await world.gates.release(passes.pop(), CallResult.NEUTRAL, wait_s=2.0)
            await world.gates.release(passes.pop(), CallResult.SUCCESS)
            found = await status(world.gates)
            assert found.breaker is BreakerState.CLOSED
            assert wait_of(found) == pytest.approx(30.0, abs=SLACK_S)
            assert wait_of(await refused(world.gates)) == pytest.approx(30.0, abs=SLACK_S)
            await world.gates.release(passes.pop(), CallResult.NEUTRAL, wait_s=40.0)
            assert wait_of(await status(world.gates)) == pytest.approx(40.0, abs=SLACK_S)
            await world.advance(40.0)
            await entered(world.gates)

        self.run(test)

    def test_a_later_hint_counts_from_its_own_moment(self) -> None:
        async def test(world: World) -> None:
            one, two = await entered(world.gates), await entered(world.gates)
            await world.gates.release(one, CallResult.NEUTRAL, wait_s=5.0)
            await world.advance(60.0)
            await world.gates.release(two, CallResult.NEUTRAL, wait_s=5.0)
            assert wait_of(await status(world.gates)) == pytest.approx(5.0, abs=SLACK_S)

        self.run(test)

    def test_headroom_is_what_is_left_after_this_call_under_the_tightest_limit(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", rpm=100, tpm=1000, parallel=10, budget_usd=10.0)
            assert (await status(world.gates, endpoint)).headroom == pytest.approx(0.9)
            assert (await status(world.gates, endpoint, 600)).headroom == pytest.approx(0.4)
            assert (await status(world.gates, endpoint, 600, 8.0)).headroom == pytest.approx(0.2)
            await world.gates.release(await entered(world.gates, endpoint, 500), CallResult.SUCCESS)
            assert (await status(world.gates, endpoint)).headroom == pytest.approx(0.5)
            assert (await status(world.gates, endpoint, 500)).headroom == pytest.approx(0.0)
            assert (await status(world.gates, endpoint, 600)).headroom == 0.0

        self.run(test)

    def test_calls_that_ask_at_the_same_moment_never_pass_together(self) -> None:
        async def test(world: World) -> None:
            for endpoint, tokens in [
                (Endpoint("a", parallel=3), 0),
                (Endpoint("b", rpm=3), 0),
                (Endpoint("c", tpm=350), 100),
            ]:
                answers = await asyncio.gather(*(world.gates.acquire(endpoint, tokens) for _ in range(30)))
                assert sum(isinstance(answer, Permit) for answer in answers) == 3

        self.run(test)

    def test_a_call_that_is_never_given_back_is_forgotten_in_the_end(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", tpm=100, parallel=1)
            lost = await entered(world.gates, endpoint, 100)
            await world.advance(FORGOTTEN_S)
            assert (await status(world.gates, endpoint)).in_flight == 0
            await entered(world.gates, endpoint, 100)
            await world.gates.release(lost, CallResult.SUCCESS)
            assert (await status(world.gates, endpoint)).in_flight == 1

        self.run(test)

    def test_a_cancelled_task_gives_everything_back(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", tpm=1000, parallel=4, budget_usd=1.0)

            async def call() -> None:
                permit = await entered(world.gates, endpoint, 250, 0.25)
                try:
                    await asyncio.sleep(3600)
                finally:
                    await world.gates.release(permit, CallResult.NEUTRAL, tokens=0, usd=0.0)

            tasks = [asyncio.create_task(call()) for _ in range(4)]
            while (await status(world.gates, endpoint)).in_flight < 4:
                await asyncio.sleep(0)
            await refused(world.gates, endpoint, 1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            found = await status(world.gates, endpoint)
            assert (found.in_flight, found.spent_usd, found.calls) == (0, 0.0, 0)
            await entered(world.gates, endpoint, 1000, 1.0)

        self.run(test)

    # The budget.

    def test_a_budget_is_kept_by_all_deployments_of_its_credential_together(self) -> None:
        async def test(world: World) -> None:
            one, two = [Endpoint(name, "KEY", budget_usd=1.0) for name in ("one", "two")]
            first = await entered(world.gates, one, usd=0.5)
            await entered(world.gates, two, usd=0.25)
            assert "KEY" in (await refused(world.gates, two, usd=0.5)).reason
            await world.gates.release(first, CallResult.SUCCESS, usd=0.125)
            assert (await status(world.gates, two)).spent_usd == pytest.approx(0.375)
            await entered(world.gates, two, usd=0.5)
            await refused(world.gates, one, usd=0.25)
            await entered(world.gates, Endpoint("one", "OTHER_KEY", budget_usd=1.0), usd=1.0)

        self.run(test)

    def test_what_a_call_cost_beyond_its_reservation_is_spent_too(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", budget_usd=1.0)
            await world.gates.release(await entered(world.gates, endpoint, usd=0.5), CallResult.FAILURE, usd=2.0)
            await world.gates.release(await entered(world.gates, Endpoint("free"), usd=0.0), CallResult.SUCCESS)
            assert (await status(world.gates, endpoint)).spent_usd == pytest.approx(2.0)
            await refused(world.gates, endpoint)

        self.run(test)

    def test_a_spent_budget_waits_for_the_next_month(self) -> None:
        async def test(world: World) -> None:
            endpoint = Endpoint("p", "KEY", budget_usd=1.0)
            await entered(world.gates, endpoint, usd=1.0)
            refusal = await refused(world.gates, endpoint, usd=0.5)
            assert 0 < wait_of(refusal) <= 31 * 24 * 3600
            await world.advance(wait_of(refusal) + SLACK_S)
            assert (await status(world.gates, endpoint)).spent_usd == 0.0
            await entered(world.gates, endpoint, usd=1.0)

        self.run(test)

    def test_a_call_dearer_than_the_whole_budget_is_refused_for_good(self) -> None:
        async def test(world: World) -> None:
            assert (await refused(world.gates, Endpoint("p", "KEY", budget_usd=1.0), usd=1.5)).wait_s is None

        self.run(test)

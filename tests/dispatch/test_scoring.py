from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from semroute.config import Deployment, Selection, Weights
from semroute.dispatch.plan import Candidate, ScoredCandidate, sample, score
from semroute.providers import CallTarget
from semroute.types import Endpoint, EndpointStatus

EVEN = Selection(exploration=0.0)


def candidate(
    name: str = "a",
    *,
    usd: float | None = 0.01,
    expected_s: float | None = 1.0,
    strength: float = 0.5,
    status: EndpointStatus | None = None,
) -> Candidate:
    target = CallTarget(Deployment(name=name, model="m"))
    return Candidate(target, Endpoint(name), usd, strength, status or EndpointStatus(), expected_s)


def shares(*candidates: Candidate, selection: Selection = EVEN) -> list[float]:
    return [scored.probability for scored in score(candidates, selection)]


candidates = st.builds(
    candidate,
    usd=st.none() | st.floats(0, 10),
    expected_s=st.none() | st.floats(0, 100),
    strength=st.floats(0, 1),
    status=st.builds(
        EndpointStatus,
        failure_share=st.floats(0, 1),
        calls=st.integers(0, 10_000),
        headroom=st.floats(0, 1),
        ramp=st.floats(0, 1),
        in_flight=st.integers(0, 1000),
    ),
)


@pytest.mark.slow
@given(st.lists(candidates, min_size=1, max_size=8), st.floats(0, 500), st.floats(0, 1))
@example([candidate(status=EndpointStatus(ramp=5e-324))], 0.0, 0.5)
def test_probabilities_are_shares_of_one_and_parts_lie_between_0_and_1(
    given: list[Candidate], sharpness: float, exploration: float
) -> None:
    scored = score(given, Selection(sharpness=sharpness, exploration=exploration))
    assert sum(one.probability for one in scored) == pytest.approx(1.0)
    assert all(0.0 <= one.probability <= 1.0 + 1e-9 for one in scored)
    assert all(0.0 <= part <= 1.0 + 1e-9 for one in scored for part in one.parts.values())
    assert [one.candidate for one in scored] == given


@pytest.mark.slow
@given(st.lists(candidates, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_deployments_changes_no_score(given: list[Candidate], random: Random) -> None:
    order = list(range(len(given)))
    random.shuffle(order)
    straight = score(given, Selection())
    shuffled = score([given[place] for place in order], Selection())
    for position, place in enumerate(order):
        assert shuffled[position].probability == pytest.approx(straight[place].probability)
        assert shuffled[position].parts == pytest.approx(straight[place].parts)


def test_the_cheaper_the_faster_the_healthier_and_the_stronger_is_preferred() -> None:
    for better, worse in [
        (candidate(usd=0.01), candidate(usd=0.02)),
        (candidate(expected_s=1.0), candidate(expected_s=3.0)),
        (candidate(), candidate(status=EndpointStatus(failure_share=0.4, calls=20))),
        (candidate(), candidate(status=EndpointStatus(headroom=0.1))),
        (candidate(strength=0.9), candidate(strength=0.2)),
    ]:
        first, second = shares(better, worse)
        assert first > second


def test_one_failure_of_one_call_weighs_less_than_as_many_of_many() -> None:
    once, often = score(
        [
            candidate(status=EndpointStatus(failure_share=1.0, calls=1)),
            candidate(status=EndpointStatus(failure_share=1.0, calls=19)),
        ],
        EVEN,
    )
    assert once.parts["availability"] > 3 * often.parts["availability"] > 0


def test_a_weight_of_0_takes_a_signal_out() -> None:
    selection = Selection(weights=Weights(cost=0.0), exploration=0.0)
    assert shares(candidate(usd=0.01), candidate(usd=5.0), selection=selection) == [0.5, 0.5]


def test_a_place_that_was_not_measured_counts_as_the_middle_of_the_others_and_is_tried() -> None:
    scored = score([candidate(expected_s=1.0), candidate(expected_s=4.0), candidate(expected_s=None)], EVEN)
    assert [one.parts["latency"] for one in scored] == [1.0, 0.25, 0.4]
    slow, unknown = shares(candidate(expected_s=2.0), candidate(expected_s=None))
    assert unknown == pytest.approx(slow)


def test_a_place_without_a_price_counts_as_the_middle_of_the_others() -> None:
    scored = score([candidate(usd=1.0), candidate(usd=4.0), candidate(usd=None)], EVEN)
    assert [one.parts["cost"] for one in scored] == [1.0, 0.25, 0.4]


def test_a_free_place_beside_one_that_costs_is_the_best_and_divides_by_nothing() -> None:
    scored = score([candidate(usd=0.0), candidate(usd=1.0)], EVEN)
    assert [one.parts["cost"] for one in scored] == [1.0, 0.0]


def test_calls_in_flight_thin_a_place_out_so_that_requests_do_not_herd() -> None:
    busy, idle = shares(candidate(status=EndpointStatus(in_flight=9)), candidate(status=EndpointStatus(in_flight=0)))
    assert idle / busy == pytest.approx(10.0)


def test_a_place_that_was_just_closed_again_gets_only_its_ramp() -> None:
    ramping, steady = shares(candidate(status=EndpointStatus(ramp=0.1)), candidate())
    assert ramping / steady == pytest.approx(0.1)


def test_exploration_gives_even_the_worst_a_share() -> None:
    selection = Selection(sharpness=100.0, exploration=0.1)
    _, worst = shares(candidate(usd=0.001), candidate(usd=10.0), selection=selection)
    assert worst == pytest.approx(0.05, abs=0.001)


def test_the_sample_follows_the_probabilities() -> None:
    scored = [ScoredCandidate(candidate("a"), probability=0.8), ScoredCandidate(candidate("b"), probability=0.2)]
    random = Random(0)
    sampled = [sample(scored, random).candidate.deployment.name for _ in range(5_000)]
    assert sampled.count("a") / len(sampled) == pytest.approx(0.8, abs=0.03)

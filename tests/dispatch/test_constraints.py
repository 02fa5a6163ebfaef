from __future__ import annotations

import pytest

from semroute.config import Deployment
from semroute.dispatch import Constraints
from semroute.types import Cost

PLACE = Deployment(name="spot", model="small", provider="groq", region="eu")
NAMES = frozenset({"spot", "small", "groq", "frontier"})
CHEAP = Cost(0.01, estimated=True)


@pytest.mark.parametrize(
    "constraints",
    [
        Constraints(),
        Constraints(deployment="spot"),
        Constraints(allow=frozenset({"small"})),
        Constraints(allow=frozenset({"spot", "other"})),
        Constraints(allow=frozenset({"groq"})),
        Constraints(deny=frozenset({"large"})),
        Constraints(regions=frozenset({"eu", "us"})),
        Constraints(max_usd=0.01),
    ],
)
def test_a_deployment_within_the_limits_may_be_called(constraints: Constraints) -> None:
    assert list(constraints.against(PLACE, CHEAP, NAMES)) == []


@pytest.mark.parametrize(
    ("constraints", "reason"),
    [
        (Constraints(deployment="other"), "asks for other"),
        (Constraints(allow=frozenset({"large"})), "allow list"),
        (Constraints(deny=frozenset({"spot"})), "deny list"),
        (Constraints(deny=frozenset({"small"})), "deny list"),
        (Constraints(deny=frozenset({"groq"})), "deny list"),
        (Constraints(deny=frozenset({"frontier"})), "deny list"),
        (Constraints(regions=frozenset({"us"})), "in eu, and the request allows us"),
        (Constraints(max_usd=0.009), "above the request's ceiling"),
        (Constraints(max_usd=0.0), "above the request's ceiling"),
    ],
)
def test_a_deployment_beyond_a_limit_is_left_out_with_the_reason(constraints: Constraints, reason: str) -> None:
    (said,) = constraints.against(PLACE, CHEAP, NAMES)
    assert reason in said


def test_a_deployment_of_no_named_region_is_not_taken_for_one_in_the_region() -> None:
    (said,) = Constraints(regions=frozenset({"us"})).against(Deployment(name="a", model="m"), None, frozenset())
    assert "no region" in said


def test_a_price_that_is_not_known_does_not_pass_a_ceiling() -> None:
    (said,) = Constraints(max_usd=100.0).against(PLACE, None, NAMES)
    assert "not known" in said

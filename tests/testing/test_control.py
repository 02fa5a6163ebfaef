from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from testing.conftest import Pace

from semroute.testing import FakeProvider, fail


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(key="right") as running:
        yield running


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[httpx.Client]:
    headers = {"authorization": "Bearer right"}
    url = provider.anthropic_url
    with httpx.Client(base_url=url, headers=headers, trust_env=False, verify=False, timeout=60) as open_client:
        yield open_client


def control(client: httpx.Client, **switches: Any) -> httpx.Response:
    return client.post("/_control", json=switches)


def ask(client: httpx.Client) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": "two words"}]}
    return client.post("/v1/chat/completions", json=body)


def test_faults_are_switched_on_and_off(client: httpx.Client) -> None:
    assert control(client, always="500", script="429:3").status_code == 200
    statuses = [ask(client).status_code for _ in range(3)]
    control(client, always=None)
    assert [*statuses, ask(client).status_code] == [429, 500, 500, 200]


def test_speed_is_changed_in_part(client: httpx.Client, pace: Pace) -> None:
    control(client, speed={"latency_s": 0.1, "token_s": 0.2})
    control(client, speed={"first_token_s": 0.15})
    pace.end(2)
    assert ask(client).status_code == 200
    assert pace.waits == [0.1, pytest.approx(0.15 + 0.2)]
    control(client, speed={"latency_s": 0, "token_s": 0, "first_token_s": 0})
    assert ask(client).status_code == 200
    assert len(pace.waits) == 2


def test_a_limit_is_set_and_lifted(client: httpx.Client) -> None:
    control(client, limit={"rpm": 1})
    limited = [ask(client) for _ in range(2)]
    control(client, limit=None)
    assert [*(given.status_code for given in limited), ask(client).status_code] == [200, 429, 200]
    assert 0 < int(limited[1].headers["retry-after"]) <= 60
    assert limited[1].headers["x-ratelimit-remaining-requests"] == "0"


def test_the_counts_are_those_of_the_requests_and_leave_control_out(client: httpx.Client) -> None:
    control(client, script="500,truncated")
    for _ in range(3):
        try:
            ask(client)
        except httpx.RemoteProtocolError:
            continue
    stats = client.get("/_stats").json()
    assert stats["requests"] == 3
    assert stats["statuses"] == {"200": 2, "500": 1}
    assert (stats["in_flight"], stats["most_in_flight"], stats["disconnected"]) == (0, 1, 0)
    assert (stats["input_tokens"], stats["output_tokens"]) == (4, 4)
    assert (stats["peak_requests_in_window"], stats["peak_tokens_in_window"]) == (2, 8)


def test_a_reset_forgets_requests_script_and_standing_reply(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script(fail(500), fail(500))
    provider.always(fail(503))
    ask(client)
    stats = control(client, reset=True, script="404").json()
    assert (stats["requests"], stats["statuses"], provider.requests) == (0, {}, [])
    assert [ask(client).status_code for _ in range(2)] == [404, 200]


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonsense": 1},
        {"always": "nonsense"},
        {"script": "429,nonsense"},
        {"speed": {"token_s": -1}},
        {"speed": {"words_s": 1}},
        {"speed": 3},
        {"limit": {"rpm": "many"}},
    ],
)
def test_a_wrong_switch_is_refused_and_changes_nothing(client: httpx.Client, wrong: dict[str, Any]) -> None:
    given = control(client, **{"always": "500", **wrong})
    assert given.status_code == 400
    assert given.json()["error"]
    assert ask(client).status_code == 200


def test_other_methods_and_bodies_are_refused(client: httpx.Client) -> None:
    assert client.get("/_control").status_code == 405
    assert client.post("/_stats").status_code == 405
    assert client.post("/_control", content=b"nonsense").status_code == 400

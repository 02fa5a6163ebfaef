"""Each row of the table of errors, by what becomes of the request and of the endpoint: three formats, whole and not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import httpx
import pytest

from semroute.config import Config
from semroute.dispatch import Dispatcher
from semroute.errors import DispatchError
from semroute.resilience import MemoryGates
from semroute.testing import FakeProvider, Reply
from semroute.types import CallResult, Completion, Delta, Permit, Request

HELLO = Request(({"role": "user", "content": "hello there you"},), max_tokens=100)
KEYS = {"THE_KEY": "the-key"}
FORMATS = ["openai", "anthropic", "gemini", "responses"]
GOOGLE = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


class Case(NamedTuple):
    """A refusal and what becomes of it: how the call ends at its endpoint, and whether another one answers."""

    status: int
    code: str | None
    result: CallResult
    elsewhere: bool = True
    message: str = "scripted"


FAILURE, NEUTRAL, SUSPEND, DISABLE = CallResult.FAILURE, CallResult.NEUTRAL, CallResult.SUSPEND, CallResult.DISABLE

CASES = [
    # The endpoint's fault.
    *(Case(status, None, FAILURE) for status in (300, 301, 302, 303, 307, 308)),
    *(Case(status, None, FAILURE) for status in (404, 405, 407, 408, 410, 421, 426)),
    *(Case(status, None, FAILURE) for status in (500, 502, 503, 504, 507, 520, 522, 524, 525, 529, 530)),
    Case(404, "model_not_found", FAILURE),
    Case(503, "slow_down", FAILURE),
    # Its limit.
    Case(429, None, NEUTRAL),
    Case(429, "rate_limit_exceeded", NEUTRAL),
    Case(429, "tokens", NEUTRAL, message="Request too large for gpt: Limit 30000, Requested 342389"),
    Case(413, "rate_limit_exceeded", NEUTRAL, message="Request too large for model on tokens per minute"),
    Case(498, "capacity_exceeded", NEUTRAL),
    Case(402, None, NEUTRAL, message="This request requires more credits, or fewer max_tokens. You can only afford 7"),
    # The credential at this endpoint.
    Case(401, None, SUSPEND),
    Case(403, None, SUSPEND),
    Case(451, None, SUSPEND),
    Case(403, "model_not_found", SUSPEND),
    Case(403, "permission_error", SUSPEND),
    Case(403, "unsupported_country_region_territory", SUSPEND),
    Case(403, "consumer_suspended", SUSPEND),
    Case(401, "ip_not_authorized", SUSPEND),
    Case(402, None, SUSPEND),
    Case(402, "billing_error", SUSPEND),
    Case(429, "insufficient_quota", SUSPEND),
    Case(429, "enforced_spend_limit_reached", SUSPEND),
    # The key.
    Case(401, "invalid_api_key", DISABLE),
    Case(401, "authentication_error", DISABLE),
    Case(401, "account_deactivated", DISABLE),
    Case(400, "api_key_invalid", DISABLE),
    # This model cannot.
    Case(400, "unsupported_parameter", NEUTRAL),
    Case(400, "unsupported_value", NEUTRAL),
    Case(400, "model_decommissioned", NEUTRAL),
    Case(400, "model_not_found", NEUTRAL),
    Case(400, "failed_precondition", NEUTRAL, message="User location is not supported for the API use."),
    Case(400, "context_length_exceeded", NEUTRAL),
    Case(500, "context_length_exceeded", NEUTRAL),
    Case(400, None, NEUTRAL, message="this model does not support images"),
    Case(400, None, NEUTRAL, message="Your credit balance is too low to access the API"),
    Case(400, None, NEUTRAL, message="Incorrect API key provided: xai-..."),
    Case(413, None, NEUTRAL),
    *(Case(status, None, NEUTRAL) for status in (406, 415, 418, 431, 460)),
    # A conflict of the moment.
    *(Case(status, None, NEUTRAL) for status in (409, 423, 424, 425, 499)),
    # The request's own fault.
    Case(400, None, NEUTRAL, elsewhere=False),
    Case(422, None, NEUTRAL, elsewhere=False),
    Case(400, "content_filter", NEUTRAL, elsewhere=False),
]


def named(case: Case) -> str:
    return f"{case.status}-{case.code or case.message[:24]}"


def body(case: Case, wire: str) -> dict[str, object]:
    """The error as the vendors of a format write it."""
    if wire == "openai":
        kind = "invalid_request_error" if case.status in (400, 401, 403, 404) else None
        return {"error": {"message": case.message, "type": kind, "param": None, "code": case.code}}
    if wire == "anthropic":
        return {"type": "error", "error": {"type": case.code or "invalid_request_error", "message": case.message}}
    error: dict[str, object] = {"code": case.status, "message": case.message}
    if case.status in GOOGLE:
        error["status"] = GOOGLE[case.status]
    if case.code is not None:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": case.code.upper()}]
    return {"error": error}


class Recorder(MemoryGates):
    """Gates that keep what they are told at the end of each call."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.breaker)
        self.told: list[tuple[str, CallResult, float | None, str | None]] = []

    async def release(self, permit: Permit, result: CallResult, **more: Any) -> None:
        self.told.append((permit.endpoint.deployment, result, more.get("wait_s"), more.get("reason")))
        await super().release(permit, result, **more)


@pytest.fixture(scope="module")
def providers() -> Iterator[tuple[FakeProvider, FakeProvider]]:
    with FakeProvider() as first, FakeProvider() as second:
        yield first, second


@pytest.fixture(autouse=True)
def _fresh(providers: tuple[FakeProvider, FakeProvider]) -> None:
    for provider in providers:
        provider.reset()


def config(providers: tuple[FakeProvider, FakeProvider], wire: str, **more: Any) -> Config:
    """A deployment of the format, and one that costs more and answers; both with the same key unless told."""
    first, second = providers
    url = {
        "openai": first.base_url,
        "anthropic": first.anthropic_url,
        "gemini": first.gemini_url,
        "responses": first.base_url,
    }[wire]
    one, other = {"model": "large", "api_key_env": "THE_KEY"}, {"model": "large", "api_key_env": "THE_KEY"}
    return Config.model_validate(
        {
            "deployments": [
                {"name": "a", "format": wire, "base_url": url, "price": {"input": 1, "output": 1}, **one},
                {"name": "b", "base_url": second.base_url, "price": {"input": 100, "output": 100}, **other},
            ],
            "retries": {"backoff_s": 0.001, "most_backoff_s": 0.001, "deadline_s": 5.0, "same_place": 0},
            "selection": {"sharpness": 500.0, "exploration": 0.0},
            **more,
        }
    )


def run(where: Config, gates: MemoryGates, *, streaming: bool, times: int = 1) -> list[Completion | DispatchError]:
    """What the requests come to, one after another."""

    async def one(dispatcher: Dispatcher) -> Completion | DispatchError:
        try:
            if not streaming:
                return await dispatcher.complete(HELLO, ("large",))
            events: list[Delta | Completion] = [event async for event in dispatcher.stream(HELLO, ("large",))]
        except DispatchError as error:
            return error
        assert isinstance(events[-1], Completion)
        return events[-1]

    async def inside() -> list[Completion | DispatchError]:
        async with httpx.AsyncClient(verify=False) as client:
            dispatcher = Dispatcher(where, gates=gates, client=client, env=KEYS, random=Random(0))
            return [await one(dispatcher) for _ in range(times)]

    return asyncio.run(inside())


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_refusal_ends_as_the_table_says(
    providers: tuple[FakeProvider, FakeProvider], case: Case, wire: str, streaming: bool
) -> None:
    providers[0].script(Reply(case.status, json.dumps(body(case, wire)).encode()))
    where = config(providers, wire)
    gates = Recorder(where)
    (found,) = run(where, gates, streaming=streaming)
    assert gates.told[0][:2] == ("a", case.result)
    assert isinstance(found, Completion) is case.elsewhere
    if isinstance(found, DispatchError):
        assert found.is_final
        assert providers[1].requests == []
    else:
        assert found.deployment == "b"


IN_200 = [case for case in CASES if case.code is not None and case.code != "ip_not_authorized" and case.status != 500]


@pytest.mark.slow
@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("case", IN_200, ids=named)
def test_an_error_event_of_a_stream_ends_as_its_status_would(
    providers: tuple[FakeProvider, FakeProvider], case: Case, wire: str
) -> None:
    told = body(case, wire)
    error = told["error"]
    assert isinstance(error, dict)
    if wire != "gemini":
        error["status"] = case.status  # where the same code comes with several, as gateways repeat it
    event = b"event: error\n" if wire == "anthropic" else b""
    stream = event + b"data: " + json.dumps(told).encode() + b"\n\n"
    providers[0].script(Reply(200, stream, {"content-type": "text/event-stream"}))
    where = config(providers, wire)
    gates = Recorder(where)
    (found,) = run(where, gates, streaming=True)
    assert gates.told[0][:2] == ("a", case.result)
    assert isinstance(found, Completion) is case.elsewhere


PAGE = b"<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title>Sorry, you have been blocked</html>"


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize(
    ("status", "result"),
    [(400, NEUTRAL), (401, SUSPEND), (403, SUSPEND), (413, NEUTRAL), (422, NEUTRAL), (503, FAILURE)],
)
def test_a_page_in_place_of_an_answer_never_disables_a_key_and_ends_no_request(
    providers: tuple[FakeProvider, FakeProvider], status: int, result: CallResult, wire: str, streaming: bool
) -> None:
    page = PAGE + b"invalid_api_key api key not valid"
    providers[0].script(Reply(status, page, {"content-type": "text/html"}))
    where = config(providers, wire)
    gates = Recorder(where)
    (found,) = run(where, gates, streaming=streaming)
    assert isinstance(found, Completion)
    assert found.deployment == "b"
    assert gates.told[0][:2] == ("a", result)


QUOTED = [
    "api key not valid",
    "API_KEY_INVALID",
    "Incorrect API key provided",
    "invalid_api_key",
    "credit balance is too low",
    "insufficient_quota",
    "account_deactivated",
    "try again in 9 hours",
    "exceeded your current quota",
]


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("text", QUOTED)
def test_a_refusal_that_quotes_its_caller_closes_nothing(
    providers: tuple[FakeProvider, FakeProvider], text: str, wire: str, status: int
) -> None:
    for message in (f"messages.0.content: {text}", text):
        providers[0].reset()
        case = Case(status, None, NEUTRAL, message=message)
        providers[0].script(Reply(status, json.dumps(body(case, wire)).encode()))
        where = config(providers, wire)
        gates = Recorder(where)
        _, after = run(where, gates, streaming=False, times=2)
        assert gates.told[0] == ("a", NEUTRAL, None, None)
        assert isinstance(after, Completion)
        assert after.deployment == "a"  # open to everybody else


@pytest.mark.slow
@pytest.mark.parametrize("status", [402, 403])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wire", FORMATS)
def test_a_firewall_that_dislikes_one_text_or_credit_for_a_shorter_answer_closes_nothing_to_others(
    providers: tuple[FakeProvider, FakeProvider], wire: str, streaming: bool, status: int
) -> None:
    page = Reply(status, PAGE, {"content-type": "text/html"})
    providers[0].script(Reply(), *[page] * 7, Reply())
    where = config(providers, wire)
    gates = Recorder(where)
    found = run(where, gates, streaming=streaming, times=9)
    assert [answer.deployment for answer in found] == ["a", *["b"] * 7, "a"]
    assert {told[1] for told in gates.told if told[0] == "a"} == {CallResult.SUCCESS, NEUTRAL}


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize(
    "case",
    [
        Case(401, "invalid_api_key", DISABLE),
        Case(401, None, SUSPEND),
        Case(403, "model_not_found", SUSPEND),
        Case(402, None, SUSPEND),
        Case(429, "insufficient_quota", SUSPEND),
    ],
    ids=named,
)
def test_what_a_provider_says_to_one_caller_is_in_no_error_of_another(
    providers: tuple[FakeProvider, FakeProvider], case: Case, wire: str
) -> None:
    secret = "my-password-is-hunter2"
    told = case._replace(message=f"you said {secret}")
    providers[0].always(Reply(case.status, json.dumps(body(told, wire)).encode()))
    alone = {"deployments": [config(providers, wire).deployments[0].model_dump(exclude_unset=True)]}
    where = Config.model_validate(alone)
    gates = Recorder(where)
    mine, others = run(where, gates, streaming=False, times=2)
    assert isinstance(mine, DispatchError)
    assert isinstance(others, DispatchError)
    assert any(secret in (attempt.error or "") for attempt in mine.attempts)
    assert secret not in f"{others} {others.attempts} {gates.snapshot()} {gates.told}"
    assert len(providers[0].requests) == 1


@pytest.mark.slow
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
def test_a_redirect_never_carries_the_key_to_where_it_points(
    providers: tuple[FakeProvider, FakeProvider], status: int, streaming: bool
) -> None:
    with FakeProvider() as elsewhere:
        location = {"location": f"{elsewhere.base_url}/chat/completions"}
        providers[0].always(Reply(status, b"", location))
        where = config(providers, "openai", breaker={"in_a_row": 3})
        gates = Recorder(where)
        found = run(where, gates, streaming=streaming, times=6)
        assert [answer.deployment for answer in found] == ["b"] * 6
        assert len(providers[0].requests) == 3  # its breaker opens
        assert elsewhere.requests == []

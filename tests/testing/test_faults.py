from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from patience import PATIENCE_S
from testing.conftest import Pace

from semroute.testing import (
    FakeProvider,
    Reply,
    answer,
    drip,
    error_event,
    error_in_200,
    fail,
    hang,
    malformed,
    malformed_event,
    no_end_marker,
    no_usage,
    reset_after,
    split_sse,
    stall_after,
    truncated,
)


@dataclass(frozen=True)
class Format:
    """How to ask in one wire format, and how to read what comes."""

    path: str
    streamed_path: str
    body: dict[str, Any]
    marker: str

    def text(self, event: dict[str, Any]) -> str:
        if "choices" in event:
            return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        if "candidates" in event:
            return str(event["candidates"][0]["content"]["parts"][0]["text"])
        return str(event.get("delta", {}).get("text", ""))


TEXT = "für einen Satz mit ü"
FORMATS = {
    "openai": Format(
        "/v1/chat/completions",
        "/v1/chat/completions",
        {"model": "m", "messages": [{"role": "user", "content": TEXT}]},
        "[DONE]",
    ),
    "anthropic": Format(
        "/v1/messages",
        "/v1/messages",
        {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": TEXT}]},
        "message_stop",
    ),
    "gemini": Format(
        "/v1beta/models/m:generateContent",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
        "finishReason",
    ),
}


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def opened(server: FakeProvider, timeout: httpx.Timeout) -> httpx.Client:
    headers = {"anthropic-version": "2023-06-01"}
    return httpx.Client(base_url=server.anthropic_url, headers=headers, trust_env=False, verify=False, timeout=timeout)


@pytest.fixture
def client(server: FakeProvider) -> Iterator[httpx.Client]:
    with opened(server, httpx.Timeout(PATIENCE_S)) as patient:
        yield patient


@pytest.fixture
def hasty(server: FakeProvider) -> Iterator[httpx.Client]:
    """A client for providers that are silent; all others may be slow on a busy machine."""
    with opened(server, httpx.Timeout(PATIENCE_S, read=0.5)) as impatient:
        yield impatient


def ask(client: httpx.Client, form: Format) -> httpx.Response:
    return client.post(form.path, json=form.body)


def received(client: httpx.Client, form: Format, into: list[bytes]) -> None:
    """Read a stream to its end; what came before an exception is in ``into``."""
    streamed = form.body if "contents" in form.body else {**form.body, "stream": True}
    with client.stream("POST", form.streamed_path, json=streamed) as response:
        assert response.status_code == 200
        into.extend(response.iter_raw())


def events(parts: list[bytes]) -> list[dict[str, Any]]:
    lines = b"".join(parts).decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]


def words(form: Format, parts: list[bytes]) -> str:
    return "".join(form.text(event) for event in events(parts))


def test_an_honest_stream_is_whole(provider: FakeProvider, client: httpx.Client, form: Format) -> None:
    parts: list[bytes] = []
    received(client, form, parts)
    assert words(form, parts) == TEXT
    assert form.marker in b"".join(parts).decode()


@pytest.mark.slow
def test_a_stalled_stream_keeps_the_connection_and_says_no_more(
    provider: FakeProvider, hasty: httpx.Client, form: Format
) -> None:
    provider.script(stall_after(2))
    parts: list[bytes] = []
    with pytest.raises(httpx.ReadTimeout):
        received(hasty, form, parts)
    assert words(form, parts) == "für einen"
    assert provider.wait_idle()
    assert provider.requests[0].disconnected


def test_a_reset_stream_ends_in_a_connection_error(provider: FakeProvider, client: httpx.Client, form: Format) -> None:
    provider.script(reset_after(1))
    parts: list[bytes] = []
    with pytest.raises(httpx.ReadError):
        received(client, form, parts)
    assert words(form, parts) == "für"
    assert provider.wait_idle()
    assert not provider.requests[0].disconnected


@pytest.mark.parametrize(("after", "text"), [(None, TEXT), (2, "für einen"), (0, "")])
def test_a_truncated_stream_ends_in_order_without_saying_so(
    provider: FakeProvider, client: httpx.Client, form: Format, after: int | None, text: str
) -> None:
    provider.script(truncated(after))
    parts: list[bytes] = []
    received(client, form, parts)
    assert words(form, parts) == text
    content = b"".join(parts).decode()
    assert form.marker not in content
    assert "end_turn" not in content
    assert '"finish_reason":"stop"' not in content


def test_only_the_marker_may_be_missing(provider: FakeProvider, client: httpx.Client) -> None:
    provider.script(no_end_marker(), no_end_marker())
    for form, kept in ((FORMATS["openai"], '"finish_reason":"stop"'), (FORMATS["anthropic"], "end_turn")):
        parts: list[bytes] = []
        received(client, form, parts)
        assert kept in b"".join(parts).decode()
        assert form.marker not in b"".join(parts).decode()


@pytest.mark.slow
def test_a_split_stream_cuts_lines_and_characters_and_loses_nothing(
    provider: FakeProvider, client: httpx.Client, form: Format
) -> None:
    provider.script(split_sse([1]), split_sse([3, 5]), split_sse([2], truncated(2)))
    for size in (1, 5):
        parts: list[bytes] = []
        received(client, form, parts)
        assert max(map(len, parts)) == size
        assert words(form, parts) == TEXT
        if size == 1:
            with pytest.raises(UnicodeDecodeError):
                [part.decode() for part in parts]
    parts = []
    received(client, form, parts)
    assert words(form, parts) == "für einen"


def test_an_error_may_come_in_the_middle_of_a_stream(
    provider: FakeProvider, client: httpx.Client, form: Format
) -> None:
    provider.script(error_event(2))
    parts: list[bytes] = []
    received(client, form, parts)
    last = events(parts)[-1]
    assert last["error"]["message"] == "scripted failure"
    assert words(form, parts) == "für einen"
    assert form.marker not in b"".join(parts).decode()


def test_an_event_may_be_no_json_while_the_rest_is(provider: FakeProvider, client: httpx.Client, form: Format) -> None:
    provider.script(malformed_event(1))
    parts: list[bytes] = []
    received(client, form, parts)
    with pytest.raises(json.JSONDecodeError):
        events(parts)
    assert form.marker in b"".join(parts).decode()


def test_an_error_in_a_200_is_the_only_event_or_the_body(
    provider: FakeProvider, client: httpx.Client, form: Format
) -> None:
    provider.script(error_in_200("broken", code=503), error_in_200("broken", code=503))
    parts: list[bytes] = []
    received(client, form, parts)
    (event,) = events(parts)
    plain = ask(client, form)
    assert plain.status_code == 200
    assert plain.json()["error"]["message"] == event["error"]["message"] == "broken"


def test_a_drip_takes_its_time_and_loses_nothing(
    provider: FakeProvider, client: httpx.Client, form: Format, pace: Pace
) -> None:
    provider.script(drip(0.02))
    pace.end(100)
    parts: list[bytes] = []
    received(client, form, parts)
    assert set(pace.waits) == {0.02}
    assert len(pace.waits) >= len(TEXT.split())
    assert words(form, parts) == TEXT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (stall_after(1), httpx.ReadTimeout),
        (reset_after(1), httpx.ReadError),
        (truncated(), httpx.RemoteProtocolError),
        (hang(), httpx.ReadTimeout),
    ],
    ids=["stall", "reset", "truncated", "hang"],
)
def test_an_answer_in_one_piece_breaks_too(
    provider: FakeProvider, hasty: httpx.Client, form: Format, reply: Reply, error: type[httpx.HTTPError]
) -> None:
    provider.script(reply)
    with pytest.raises(error):
        ask(hasty, form)


def test_an_answer_in_one_piece_may_be_split_dripped_or_wrong(
    provider: FakeProvider, client: httpx.Client, form: Format
) -> None:
    provider.script(split_sse([1, 50]), drip(0.002), error_event(), malformed_event(), malformed())
    for _ in range(2):
        assert TEXT in ask(client, form).text
    assert "error" in ask(client, form).json()
    for _ in range(2):
        with pytest.raises(json.JSONDecodeError):
            ask(client, form).json()


def test_a_fault_breaks_the_reply_that_it_is_given(
    provider: FakeProvider, client: httpx.Client, form: Format, pace: Pace
) -> None:
    provider.script(truncated(2, answer("one two three")), hang(0.05, fail(500)), no_usage(truncated(reply=no_usage())))
    pace.end()
    parts: list[bytes] = []
    received(client, form, parts)
    assert words(form, parts) == "one two"
    assert pace.waits == []
    assert ask(client, form).status_code == 500
    assert pace.waits == [0.05]
    parts = []
    received(client, form, parts)
    assert "usage" not in b"".join(parts).decode()


def test_sizes_have_to_be_above_nothing() -> None:
    with pytest.raises(ValueError, match="above 0"):
        split_sse([3, 0])

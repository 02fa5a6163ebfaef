from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.providers.failures import MAX_READ, MAX_WAIT_S, MAX_WORDED_S, retry_after, wait_s

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


def retry_info(delay: object) -> object:
    details = [
        {"@type": "type.googleapis.com/google.rpc.Help"},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}


def openrouter(headers: dict[str, str]) -> object:
    return {"error": {"code": 429, "message": "Rate limit exceeded", "metadata": {"headers": headers}}}


def worded(message: str) -> object:
    return {"error": {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}}


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, None, 7.0),
        ({"Retry-After": " 1.5 "}, None, 1.5),
        ({"retry-after": "0"}, None, 0.0),
        ({"retry-after": http_date(90)}, None, 90.0),
        ({"retry-after": http_date(-90)}, None, 0.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:01:00 -0000"}, None, 60.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, None, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, None, 1.0),
        ({}, retry_info("34.074824224s"), 34.074824224),
        ({}, [retry_info("3s")], 3.0),
        ({"retry-after": "5"}, retry_info("34s"), 5.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, None, 360.0),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "20ms",
                "x-ratelimit-remaining-tokens": "12",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            None,
            0.02,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1h2m3.5s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1s",
            },
            None,
            3723.5,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "0s",
                "x-ratelimit-reset-tokens": "9s",
            },
            None,
            0.0,
        ),
        ({"x-ratelimit-reset-tokens": "12"}, None, 12.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "9",
                "anthropic-ratelimit-requests-reset": "2026-03-01T13:00:00Z",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-03-01T12:00:30Z",
            },
            None,
            30.0,
        ),
        ({"anthropic-ratelimit-tokens-reset": "2026-03-01T11:00:00+00:00"}, None, 0.0),
        ({"retry-after": "1", "x-ratelimit-reset-tokens": "6m0s"}, None, 1.0),
        # A header that came twice: its values with commas between.
        ({"retry-after": "7, 7"}, None, 7.0),
        ({"retry-after": "2, 8"}, None, 8.0),
        ({"retry-after": "soon, 8"}, None, 8.0),
        ({"retry-after-ms": "250, 1500", "retry-after": "9"}, None, 1.5),
        ({"retry-after": f"{http_date(90)}, {http_date(30)}"}, None, 90.0),
        ({"retry-after": f"5, {http_date(30)}"}, None, 30.0),
        ({"retry-after": "Sunday, 01-Mar-26 12:01:30 GMT"}, None, 90.0),
        ({"retry-after": "Sun Mar  1 12:01:30 2026"}, None, 90.0),
        ({"x-ratelimit-reset-tokens": "1s, 6m0s"}, None, 360.0),
        ({"x-ratelimit-remaining-requests": "0, 0", "x-ratelimit-reset-requests": "3s, 3s"}, None, 3.0),
        # A date counts from the server's own clock.
        ({"retry-after": http_date(90), "date": http_date(30)}, None, 60.0),
        ({"retry-after": http_date(90), "date": "Thu, 01 Jan 1970 00:00:00 GMT"}, None, 90.0),
        ({"retry-after": str(int(NOW) + 45)}, None, 45.0),
        ({"x-ms-retry-after-ms": "2500"}, None, 2.5),
        # A moment in milliseconds, OpenRouter; in seconds; and a number of seconds.
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW + 40) * 1000)}, None, 40.0),
        ({"x-ratelimit-reset": str(int(NOW) + 50)}, None, 50.0),
        ({"ratelimit-reset": "17"}, None, 17.0),
        ({"x-ratelimit-reset-requests": "2026-03-01T12:00:20Z"}, None, 20.0),
        ({}, openrouter({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW + 60) * 1000)}), 60.0),
        ({}, openrouter({"Retry-After": "6"}), 6.0),
        ({"retry-after": "3"}, openrouter({"Retry-After": "6"}), 3.0),
        ({}, retry_info({"seconds": 12, "nanos": 5}), 12.0),
        ({}, retry_info({"seconds": "12"}), 12.0),
        # Words of the message, where nothing says it outright.
        ({}, worded("Rate limit reached. Please try again in 8s. Visit https://x.test/limits"), 8.0),
        ({}, worded("Please try again in 6m0s."), 360.0),
        ({}, worded("Please try again in 1.5s"), 1.5),
        ({}, worded("Please try again in 20ms."), 0.02),
        ({}, worded("Please retry after 8 seconds."), 8.0),
        ({}, worded("Please retry in 34.074824224s."), 34.074824224),
        ({}, worded("Try again in 2 minutes and 5 seconds"), 125.0),
        ({}, worded("please wait for 3 min"), 180.0),
        ({}, worded("Please try again in 23h59m"), MAX_WORDED_S),
        ({}, "Please try again in 8s", 8.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, worded("Please try again in 8s."), 8.0),
        (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3s"},
            worded("Please try again in 8s."),
            3.0,
        ),
        ({"retry-after": "5"}, worded("Please try again in 8s."), 5.0),
        ({"retry-after": "999999999999"}, None, MAX_WAIT_S),
        ({"retry-after": "9" * 400}, None, MAX_WAIT_S),
    ],
)
def test_every_kind_of_hint_is_read_as_seconds(headers: dict[str, str], body: object, seconds: float) -> None:
    assert wait_s(headers, body, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"retry-after": ""},
        {"retry-after": "-3"},
        {"retry-after": "nan"},
        {"retry-after": "inf"},
        {"retry-after": "soon"},
        {"retry-after": "\u0663"},
        {"retry-after": "Fri, 99 Foo 2026 12:00:00 GMT"},
        {"x-ratelimit-reset-tokens": "6 minutes"},
        {"x-ratelimit-reset-tokens": ""},
        {"x-ratelimit-remaining-tokens": "0"},
        {"anthropic-ratelimit-tokens-reset": "2026-03-01T12:00:30"},
        {"anthropic-ratelimit-tokens-reset": "tomorrow"},
    ],
)
def test_nonsense_is_no_hint(headers: dict[str, str]) -> None:
    assert wait_s(headers, None, NOW) is None


@pytest.mark.parametrize(
    "message",
    [
        "try again later",
        "try again in a while",
        "in 8s",
        "try again in 8 bananas",
        "8s to go",
        "x" * MAX_READ + "try again in 8s",
    ],
)
def test_words_that_name_no_wait_are_no_hint(message: str) -> None:
    assert wait_s({}, worded(message), NOW) is None


def test_words_are_no_hint_for_other_failures_than_a_rate_limit() -> None:
    assert retry_after({}, worded("Please try again in 8s."), NOW) is None


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 -2300", "Mon, 01 Jan 0001 00:00:00 +2300"])
def test_a_date_at_the_edge_of_the_calendar_does_no_harm(date: str) -> None:
    assert wait_s({"retry-after": date}, None, NOW) in (None, 0.0, MAX_WAIT_S)


@pytest.mark.parametrize("body", [None, "text", [], [3], {"error": "x"}, {"error": {"details": 3}}, retry_info(34)])
def test_a_body_of_any_shape_without_a_delay_is_no_hint(body: object) -> None:
    assert wait_s({}, body, NOW) is None


def test_the_reset_of_a_limit_is_no_hint_for_other_failures_than_a_rate_limit() -> None:
    headers = {"x-ratelimit-reset-tokens": "6m0s", "anthropic-ratelimit-tokens-reset": "2026-03-01T13:00:00Z"}
    assert retry_after(headers, None, NOW) is None
    assert retry_after({**headers, "retry-after": "2"}, None, NOW) == 2.0


NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens",
     "anthropic-ratelimit-tokens-reset", "anthropic-ratelimit-tokens-remaining"]
)  # fmt: skip
VALUES = (
    st.text(max_size=20)
    | st.from_regex(r"[0-9]{1,30}(\.[0-9]{1,9})?(ms|s|m|h|d)?")
    | st.integers(-(10**9), 10**11).map(str)
    | st.datetimes().map(lambda moment: format_datetime(moment))
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
)


@pytest.mark.slow
@given(st.dictionaries(NAMES, VALUES), VALUES, st.floats(0, 4e9))
def test_a_hint_is_never_negative_and_never_too_long(headers: dict[str, str], delay: str, now: float) -> None:
    seconds = wait_s(headers, retry_info(delay), now)
    assert seconds is None or 0 <= seconds <= MAX_WAIT_S

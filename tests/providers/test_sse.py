from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.providers.streaming import EventTooLongError, Parser, ServerSentEvent


def parse(*chunks: bytes) -> list[ServerSentEvent]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (b"data: one\n\n", [ServerSentEvent(None, "one")]),
        (b"data: one\r\n\r\ndata: two\r\r", [ServerSentEvent(None, "one"), ServerSentEvent(None, "two")]),
        (b"event: ping\ndata: {}\n\n", [ServerSentEvent("ping", "{}")]),
        (b"data: a\ndata: b\n\n", [ServerSentEvent(None, "a\nb")]),
        (
            b"data:no space\n\ndata:  two spaces\n\n",
            [ServerSentEvent(None, "no space"), ServerSentEvent(None, " two spaces")],
        ),
        (b"data\n\n", [ServerSentEvent(None, "")]),
        (b"data: a: b\n\n", [ServerSentEvent(None, "a: b")]),
        (b": a comment\n\n:\n\n", []),
        (b"event: lonely\n\ndata: x\n\n", [ServerSentEvent(None, "x")]),
        (b"event: a\nevent:\ndata: x\n\n", [ServerSentEvent(None, "x")]),
        (b"id: 7\nretry: 10\nunknown: y\ndata: x\n\n", [ServerSentEvent(None, "x")]),
        (b"\xef\xbb\xbfdata: x\n\n", [ServerSentEvent(None, "x")]),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [ServerSentEvent(None, "x")]),
        (b"\n\n\ndata: x\n\n\n\n", [ServerSentEvent(None, "x")]),
        (b"data: never ended\n", []),
        (b"data: \xff\n\n", [ServerSentEvent(None, "\ufffd")]),
        ("data: a\u2028b\x0bc\x85d\n\n".encode(), [ServerSentEvent(None, "a\u2028b\x0bc\x85d")]),
    ],
)
def test_bytes_are_read_as_the_standard_asks(sent: bytes, events: list[ServerSentEvent]) -> None:
    assert parse(sent) == events


def test_a_character_and_a_line_end_that_are_cut_in_two_are_put_together() -> None:
    assert parse(b"data: \xf0\x9f", b"\x98\x80\r", b"\ndata: y\r", b"\n\r", b"\n") == [ServerSentEvent(None, "😀\ny")]


FIELDS = st.sampled_from(
    [b"data: ", b"data:", b"event: e", b": c", b"id: 1", b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"x", b"\xc3"]
)
TEXTS = st.text("aé😀:\u2028\t ", max_size=6).map(str.encode)


@pytest.mark.slow
@given(st.lists(FIELDS | TEXTS, max_size=30).map(b"".join), st.data())
def test_the_events_are_the_same_however_the_bytes_are_cut(sent: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=12).map(sorted))
    edges = [0, *cuts, len(sent)]
    assert parse(*(bytes([byte]) for byte in sent)) == parse(sent)
    assert parse(*(sent[a:b] for a, b in pairwise(edges))) == parse(sent)


@pytest.mark.slow
@given(st.lists(st.tuples(st.none() | st.text("abc", min_size=1), st.text("xy é😀{}\n", max_size=20)), max_size=8))
def test_what_is_written_as_events_is_read_back(events: list[tuple[str | None, str]]) -> None:
    written = ""
    for kind, text in events:
        written += f"event: {kind}\n" if kind is not None else ""
        written += "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"
    assert parse(written.encode()) == [ServerSentEvent(kind, text) for kind, text in events]


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("sent", [b"data: " + b"x" * 200, b"data: xxxxxxxxx\n" * 20, b"data: " + b"x" * 200 + b"\n\n"])
def test_an_event_without_end_is_refused_and_not_kept(sent: bytes, step: int) -> None:
    parser = Parser(most=100)
    pieces = (sent[start : start + step] for start in range(0, len(sent), step))
    with pytest.raises(EventTooLongError, match="100"):
        _ = [event for piece in pieces for event in parser.feed(piece)]


def test_events_before_one_that_is_too_long_are_given() -> None:
    parser = Parser(most=100)
    events = parser.feed(b"data: ok\n\ndata: " + b"x" * 200)
    assert next(events) == ServerSentEvent(None, "ok")
    with pytest.raises(EventTooLongError):
        next(events)


def test_many_short_events_are_no_long_one() -> None:
    parser = Parser(most=100)
    assert sum(1 for _ in range(1000) for _ in parser.feed(b": keep\ndata: x\n\n")) == 1000

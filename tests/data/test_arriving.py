from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semroute.data.queries import BLOCK, ArrivingLines
from semroute.data.rows import MAX_LINE_BYTES


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, int]]:
    """A reading end as a stream, and a writing end."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stream:
        yield stream, write_end


def test_a_line_is_available_once_complete(pipe: tuple[BinaryIO, int]) -> None:
    stream, write_end = pipe
    lines = ArrivingLines(stream)
    assert not lines.ready()
    os.write(write_end, b"one\ntw")
    assert lines.ready()
    assert next(lines) == b"one\n"
    assert not lines.ready()
    os.write(write_end, b"o\n")
    assert lines.ready()
    assert next(lines) == b"two\n"
    os.close(write_end)
    assert lines.ready()
    assert list(lines) == []


def test_blank_lines_are_not_ready_but_are_yielded(pipe: tuple[BinaryIO, int]) -> None:
    stream, write_end = pipe
    lines = ArrivingLines(stream)
    os.write(write_end, b"\n \n")
    assert not lines.ready()
    os.write(write_end, b"x\n")
    os.close(write_end)
    assert lines.ready()
    assert list(lines) == [b"\n", b" \n", b"x\n"]


def test_a_last_line_without_an_end_is_a_line(pipe: tuple[BinaryIO, int]) -> None:
    stream, write_end = pipe
    os.write(write_end, b"one\ntwo")
    os.close(write_end)
    assert list(ArrivingLines(stream)) == [b"one\n", b"two"]


def test_bytes_in_memory_are_always_ready() -> None:
    lines = ArrivingLines(io.BytesIO(b"one\ntwo"))
    assert lines.ready()
    assert list(lines) == [b"one\n", b"two"]


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.binary(max_size=300).map(lambda part: part[:40] + b"\n" + part[40:]), max_size=20))
def test_lines_are_those_of_the_bytes_however_they_arrive(parts: list[bytes]) -> None:
    read_end, write_end = os.pipe()
    found = []
    with os.fdopen(read_end, "rb") as stream:
        lines = ArrivingLines(stream)
        for part in parts:
            os.write(write_end, part)
            while lines.ready() and lines._lines:
                found.append(next(lines))
        os.close(write_end)
        found += list(lines)
    assert found == list(io.BytesIO(b"".join(parts)))


def test_a_line_that_never_ends_is_handed_on_beyond_the_limit_and_not_gathered(pipe: tuple[BinaryIO, int]) -> None:
    stream, write_end = pipe
    writer = threading.Thread(target=_pour, args=(write_end,))
    writer.start()
    lines = ArrivingLines(stream)
    assert MAX_LINE_BYTES < len(next(lines)) < MAX_LINE_BYTES + 2 * BLOCK
    assert list(lines) == []
    stream.close()
    writer.join()


def _pour(descriptor: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        while True:
            os.write(descriptor, b"x" * BLOCK)
    os.close(descriptor)

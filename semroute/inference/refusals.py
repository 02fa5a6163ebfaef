"""What an ONNX file may not hold, found in its bytes before ONNX Runtime opens it.

A graph that reads tensors from other files leaves the hashes of its folder, and with ONNX Runtime before 1.24 the
folder itself. Loops have no bound on their turns. Only the messages on the way to tensors and nodes are looked into;
the field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3, the wire format is
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from semroute.errors import EncoderError

MOST_FIELDS = 2_000_000
"""Fields that are looked at; a graph of a hundred layers has some 20,000."""
LOOPS = {b"Loop", b"Scan", b"SequenceMap"}

# Messages, and which of their fields hold which others.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_GRAPH, _OP_TYPE, _EXTERNAL_DATA, _DATA_LOCATION = 7, 4, 13, 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_Field: TypeAlias = tuple[int, int, int, int]
"""Number, start and end of the content, and the value of a varint."""


def check_graph_file(path: Path) -> None:
    """Refuse an ONNX file with data outside of it, or with a loop.

    Raises:
        EncoderError: it has; or it is missing, empty or no ONNX file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            problem = _problem(content)
    except (OSError, ValueError, IndexError) as error:
        raise EncoderError(f"{path}: not a usable ONNX model ({error})") from error
    if problem is not None:
        raise EncoderError(f"{path}: not a usable ONNX model ({problem})")


def _problem(content: mmap.mmap) -> str | None:
    todo = [("model", 0, len(content))]
    left, has_graph = MOST_FIELDS, False
    while todo:
        message, start, end = todo.pop()
        children = _CHILDREN[message]
        for number, at, stop, value in _fields(content, start, end):
            left -= 1
            if left < 0:
                return f"more than {MOST_FIELDS:,} fields"
            if number in children and stop > at:
                todo.append((children[number], at, stop))
            has_graph |= message == "model" and number == _GRAPH
            if message == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value)):
                return "a tensor's data lies in another file; save the model with all data inside"
            if message == "node" and number == _OP_TYPE and content[at:stop] in LOOPS:
                return "it holds a loop"
    return None if has_graph else "it holds no graph"


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[_Field]:
    """The fields of a message.

    Raises:
        ValueError, IndexError: it is none.
    """
    while at < end:
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        value = 0
        start = at
        if kind == _VARINT:
            value, at = _varint(content, at)
        elif kind == _LENGTH:
            length, start = _varint(content, at)
            at = start + length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("not a message of protobuf")
        if at > end or not number:
            raise ValueError("not a message of protobuf")
        yield number, start, at, value


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not a message of protobuf")

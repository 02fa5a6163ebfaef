from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from semroute.storage import PART_AGE_S, atomic_write, read_json

pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks of the system, as POSIX has them")
SPAWN = multiprocessing.get_context("spawn")


def parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


def grow_old(path: Path) -> None:
    before = time.time() - 2 * PART_AGE_S
    os.utime(path, (before, before))


def write_until_told(path: Path, pipe: Connection) -> None:
    with atomic_write(path) as part:
        part.write_text("half")
        grow_old(part)
        pipe.send(part.name)
        pipe.recv()


@pytest.mark.slow
def test_the_part_of_a_killed_writer_is_gone_after_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    here, there = SPAWN.Pipe()
    writer = SPAWN.Process(target=write_until_told, args=(path, there))
    writer.start()
    name = here.recv()
    # While it lives its part stays, however old it looks.
    with atomic_write(path) as part:
        part.write_text("first")
    assert [left.name for left in parts(tmp_path)] == [name]
    writer.kill()
    writer.join()
    with atomic_write(path) as part:
        part.write_text("second")
    assert parts(tmp_path) == []
    assert path.read_text() == "second"


def test_young_parts_and_files_of_others_stay(tmp_path: Path) -> None:
    young, other, alike = (tmp_path / name for name in (".a.json.abcdefgh", ".b.json.abcdefgh", ".a.json.backup-1"))
    for left in (young, other, alike):
        left.touch()
    grow_old(other)
    grow_old(alike)
    with atomic_write(tmp_path / "a.json") as part:
        part.write_text("x")
    assert parts(tmp_path) == sorted([young, other, alike])


def test_a_link_that_is_named_like_a_part_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.touch()
    grow_old(target)
    (tmp_path / ".a.json.abcdefgh").symlink_to(target)
    with atomic_write(tmp_path / "a.json") as part:
        part.write_text("x")
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'"' + b"x" * 2000 + b'"', "larger than"),
        (b"\xff", "utf-8"),
        (b"{", "Expecting"),
        (b"9" * 1000 + b"9" * 4000, "larger than|limit"),
    ],
)
def test_json_beyond_a_bound_is_a_value_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(path, most_bytes=200_000 if content.startswith(b"[") else 1024)


def test_a_device_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            read_json(tmp_path / name)

"""A folder of arrays under several readers and writers, and writers that do not come to an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from semroute.errors import ArtifactError, InputError
from semroute.storage import MANIFEST, NUMBER, ArrayFolder

FOLDER = ArrayFolder("made-up", 1, "made-up thing", "make", {"number": NUMBER})

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from semroute.errors import InputError
from semroute.storage import ArrayFolder
from semroute.storage import NUMBER

FOLDER = ArrayFolder("made-up", 1, "made-up thing", "make", {"number": NUMBER})

def write(number):
    FOLDER.write(Path(sys.argv[1]), {"number": number}, {"values": np.full(5000, float(number))})
"""


def write(folder: Path, number: int) -> None:
    FOLDER.write(folder, {"number": number}, {"values": np.full(5000, float(number))})


def number_of(folder: Path) -> int:
    """The number of what is there, having checked that the arrays are those of the manifest."""
    stored = FOLDER.read(folder)
    assert (stored.arrays["values"] == stored.manifest["number"]).all()
    return int(stored.manifest["number"])


def started(folder: Path, rest: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(rest), str(folder)], stderr=subprocess.PIPE, text=True
    )


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    return [process.communicate(timeout=120)[1] for process in processes]


@pytest.mark.slow
def test_concurrent_readers_see_only_complete_artifacts(tmp_path: Path) -> None:
    write(tmp_path, 0)
    writer = Thread(target=lambda: [write(tmp_path, number) for number in range(1, 150)])
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(number_of(tmp_path))
    writer.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert number_of(tmp_path) == 149


def test_a_file_that_two_writers_replace_between_two_looks_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0)
    look, overtaken = Path.stat, list[Path]()

    def overtaking(path: Path, **options: bool) -> os.stat_result:
        found = look(path, **options)
        if path.suffix == ".npz" and not overtaken:
            overtaken.append(path)
            write(tmp_path, 1)
            write(tmp_path, 2)
        return found

    monkeypatch.setattr(Path, "stat", overtaking)
    assert number_of(tmp_path) == 2
    assert not overtaken[0].exists()


@pytest.mark.slow
def test_several_writers_take_turns(tmp_path: Path) -> None:
    made = [started(tmp_path / "new", f"[write({start} + n) for n in range(40)]") for start in (0, 100, 200)]
    assert ended(made) == ["", "", ""]
    assert number_of(tmp_path / "new") % 100 == 39
    assert len(list((tmp_path / "new").glob("weights-*"))) == 2


@pytest.mark.slow
def test_a_killed_writer_keeps_the_old_file_and_the_next_cleans_up(tmp_path: Path) -> None:
    write(tmp_path, 0)
    for pause in np.linspace(0.0, 0.05, 8).tolist():
        process = started(tmp_path, "print('x', file=sys.stderr, flush=True)\nwhile True: write(1); write(2)")
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=120)
        number_of(tmp_path)
    write(tmp_path, 3)
    assert number_of(tmp_path) == 3
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {MANIFEST, ".lock", "weights"}


def test_the_first_writer_of_a_folder_may_be_killed_too(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / f".{MANIFEST}.abcd1234").write_text("{")
    (tmp_path / f"weights-{'0' * 16}.npz").write_bytes(b"half")
    (tmp_path / f".weights-{'0' * 16}.npz.x_y_z_12").write_bytes(b"half")
    write(tmp_path, 1)
    assert number_of(tmp_path) == 1
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == [".lock", MANIFEST, "weights"]
    (tmp_path / MANIFEST).unlink()
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        write(tmp_path, 2)


@pytest.mark.slow
def test_a_disk_without_room_leaves_what_was_there(tmp_path: Path) -> None:
    """The limit on the size of a file fails as a full disk does: with an OSError, in the middle of a write."""
    write(tmp_path, 0)
    before = sorted(path.name for path in tmp_path.iterdir())
    rest = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
    try:
        write(1)
    except InputError as error:
        sys.exit(f"said: {error}")
    """
    assert "the made-up thing cannot be written (File too large)" in ended([started(tmp_path, rest)])[0]
    assert number_of(tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_permanently_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, 0)
    (gone,) = tmp_path.glob("weights-*")
    gone.unlink()
    with pytest.raises(ArtifactError, match=rf"cannot be read \(.*{gone.name} is missing\); train it again"):
        FOLDER.read(tmp_path)

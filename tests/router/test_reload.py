from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from semroute.errors import ArtifactError
from semroute.index.manifest import MANIFEST
from semroute.router.load import Reloader


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    replace(tmp_path, "first")
    return tmp_path


def replace(folder: Path, text: str) -> None:
    (folder / "new").write_text(text)
    (folder / "new").replace(folder / MANIFEST)


def look(reloader: Reloader, clock: Clock, at: float, reload: object = None) -> bool:
    """Whether a reload was started."""
    clock.now = at
    thread = reloader.look(reload if callable(reload) else lambda: None)
    if thread is not None:
        thread.join(60)
    return thread is not None


def test_a_replaced_manifest_is_noticed_once(folder: Path) -> None:
    clock, loaded = Clock(), []
    reloader = Reloader(folder, 1.0, clock)
    assert not look(reloader, clock, 2)
    replace(folder, "second")
    assert look(reloader, clock, 4, lambda: loaded.append(threading.current_thread().name))
    assert loaded == ["semroute-reload"]
    assert not look(reloader, clock, 6)


def test_it_looks_no_more_often_than_asked(folder: Path) -> None:
    clock = Clock()
    reloader = Reloader(folder, 1.0, clock)
    replace(folder, "second")
    assert not look(reloader, clock, 0.5)
    assert look(reloader, clock, 1.5)
    replace(folder, "third")
    assert not look(reloader, clock, 2.0)
    assert look(reloader, clock, 2.6)


def test_a_new_index_that_cannot_be_used_is_a_warning_and_the_next_one_is_tried(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    reloader = Reloader(folder, 1.0, clock)

    def fail() -> None:
        raise ArtifactError("it is damaged")

    replace(folder, "damaged")
    with caplog.at_level(logging.WARNING, logger="semroute"):
        assert look(reloader, clock, 2, fail)
    assert [record.getMessage() for record in caplog.records] == [
        "the new index cannot be used, the old one goes on serving: it is damaged"
    ]
    assert not look(reloader, clock, 4)
    replace(folder, "good")
    assert look(reloader, clock, 6)


def test_a_manifest_that_is_gone_for_a_while_is_waited_for(folder: Path) -> None:
    clock = Clock()
    reloader = Reloader(folder, 1.0, clock)
    (folder / MANIFEST).unlink()
    assert not look(reloader, clock, 2)
    replace(folder, "second")
    assert look(reloader, clock, 4)


def test_many_threads_start_one_reload(folder: Path) -> None:
    clock, started, ready = Clock(), [], threading.Barrier(8)
    reloader = Reloader(folder, 1.0, clock)
    replace(folder, "second")
    clock.now = 2.0

    def work() -> None:
        ready.wait(60)
        thread = reloader.look(lambda: None)
        if thread is not None:
            started.append(thread)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in [*threads, *started]:
        thread.join(60)
    assert len(started) == 1

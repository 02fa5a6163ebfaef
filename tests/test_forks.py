from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from semroute import _sync, forks
from semroute.encoders.torch import TorchEncoder
from semroute.index import prototypes
from semroute.index.prototypes import PrototypeIndex

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
PATIENCE_S = 30.0


def in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` gives in a forked child; None where it hangs or fails."""
    near, far = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: far.send(work()))
    child.start()
    try:
        return near.recv() if near.poll(PATIENCE_S) else None
    finally:
        child.kill()
        child.join()


async def double(value: int) -> int:
    return 2 * value


@pytest.mark.slow
def test_the_bridge_works_in_a_forked_child_and_goes_on_in_its_parent() -> None:
    assert _sync.run(double(2)) == 4
    assert in_child(lambda: _sync.run(double(4))) == 8
    assert _sync.run(double(3)) == 6


@pytest.mark.slow
def test_a_child_that_was_forked_on_the_bridge_uses_it() -> None:
    async def fork() -> Any:
        return in_child(lambda: _sync.run(double(4)))

    assert _sync.run(fork()) == 8


@pytest.mark.slow
def test_a_lock_that_another_thread_holds_is_open_in_the_child() -> None:
    lock, release = forks.lock(), threading.Event()

    def hold() -> None:
        with lock:
            release.wait(PATIENCE_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert in_child(lambda: lock.acquire(timeout=5)) is True
    assert lock.locked()
    release.set()
    holder.join()
    assert not lock.locked()


@pytest.mark.slow
def test_a_fork_waits_for_work_that_no_child_could_take_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "WAIT_S", PATIENCE_S)
    lock, is_held, done = forks.WaitedLock(), threading.Event(), list[str]()

    def work() -> None:
        with lock:
            is_held.set()
            time.sleep(0.3)
            done.append("done")

    worker = threading.Thread(target=work)
    worker.start()
    is_held.wait(PATIENCE_S)
    assert in_child(lambda: (list(done), lock.locked())) == (["done"], False)
    assert not lock.locked()
    worker.join()


@pytest.mark.slow
def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "WAIT_S", 0.05)
    lock = forks.WaitedLock()
    with lock:
        assert in_child(lock.locked) is False
        assert lock.locked()


class HangingLock:
    """A lock that its first holder keeps; waiting for it passes the time of a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self._is_held = False

    def acquire(self, timeout: float | None = None) -> bool:
        if self._is_held:
            assert timeout is not None, "nobody waits for ever"
            self.waits.append(timeout)
            self.now += timeout
            return False
        self._is_held = True
        return True

    def release(self) -> None:
        self._is_held = False


@pytest.mark.slow
def test_forks_do_not_wait_one_after_another_for_the_same_holder_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = HangingLock()
    monkeypatch.setattr(forks, "lock", lambda: hanging)
    with forks.WaitedLock(lambda: hanging.now):
        for _ in range(4):
            assert in_child(lambda: True)
    assert hanging.waits == [forks.WAIT_S, 0.0, 0.0, 0.0]


@pytest.mark.slow
def test_collected_owners_are_not_reset() -> None:
    class Owner:
        pass

    seen: list[str] = []
    kept, gone = Owner(), Owner()
    forks.in_child(kept, lambda owner: seen.append("kept"))
    forks.in_child(gone, lambda owner: seen.append("gone"))
    del gone
    gc.collect()
    assert in_child(lambda: list(seen)) == ["kept"]
    assert seen == []


@pytest.mark.slow
def test_an_approximate_index_is_searched_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prototypes, "APPROXIMATE_FROM", 1000)
    rows = np.random.default_rng(0).standard_normal((2000, 16), dtype=np.float32)
    index = PrototypeIndex.build(rows / np.linalg.norm(rows, axis=1, keepdims=True), [1000, 1000])
    assert not index.exact
    expected = index.similarities(index.centroids().repeat(100, axis=0))
    found = in_child(lambda: index.similarities(index.centroids().repeat(100, axis=0)))
    assert np.array_equal(found, expected)


@pytest.mark.slow
def test_an_encoder_on_torch_encodes_in_a_child(sentence_transformer: SentenceTransformer) -> None:
    encoder = TorchEncoder(sentence_transformer)
    texts = [f"text number {number}" for number in range(20)]
    expected = encoder.encode(texts)
    np.testing.assert_allclose(in_child(lambda: encoder.encode(texts)), expected, atol=1e-5)


@pytest.mark.slow
def test_onnx_runtime_is_loaded_without_its_telemetry_and_a_child_comes_to_its_end() -> None:
    code = """
import os, signal, sys
from semroute.encoders.onnx import NO_TELEMETRY, runtime
before = dict(os.environ)
runtime()
assert dict(os.environ) == before
pid = os.fork()
if not pid:
    signal.alarm(20)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    clean = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=clean, capture_output=True, timeout=60)
    assert run.stdout == b"7\n", run.stderr

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from semroute.cli.main import AGAIN_S, Terminated, not_lost, orderly_end
from semroute.config import Log
from semroute.outcomes.log import open_log
from semroute.testing import FakeProvider, hang

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal to a thread")


class Interrupted:
    """What is interrupted while it is freed."""

    def __del__(self) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        time.sleep(1.0)  # the interrupt is raised here


class Slow:
    """What takes a while to be freed."""

    def __del__(self) -> None:
        time.sleep(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("freed", [(Interrupted,), (Interrupted, Slow)])
def test_an_interrupt_that_falls_into_destructors_is_raised_again(freed: tuple[type, ...]) -> None:
    def free() -> None:
        with not_lost():
            for kind in freed:
                kind()
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        free()


def test_what_else_a_destructor_raises_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("a bug")

    seen: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(str(unraisable.exc_value)))
    ours = sys.unraisablehook
    with not_lost():
        Broken()
    assert seen == ["a bug"]
    assert sys.unraisablehook is ours


@pytest.mark.slow
def test_a_command_that_ends_before_is_not_interrupted_afterwards() -> None:
    presses: list[int] = []

    def pressed(number: int, _: object) -> None:
        presses.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, pressed)
    try:
        with not_lost():
            Interrupted()
        time.sleep(4 * AGAIN_S)
    finally:
        signal.signal(signal.SIGINT, before)
    assert presses == [signal.SIGINT]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_ends_it_in_order_and_only_once(number: signal.Signals) -> None:
    closed: list[str] = []

    def work() -> None:
        with orderly_end(), not_lost():
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)  # a second one, while the first is obeyed
                closed.append("log")

    before = signal.getsignal(number)
    with pytest.raises(Terminated, match=number.name):
        work()
    assert closed == ["log"]
    assert signal.getsignal(number) is before


def test_a_signal_that_another_has_set_or_ignored_is_left_alone() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with orderly_end():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Ended:
    """What is told to end while it is freed."""

    def __del__(self) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        time.sleep(1.0)


def test_a_signal_that_falls_into_a_destructor_is_raised_again() -> None:
    def free() -> None:
        with orderly_end(), not_lost():
            Ended()
            time.sleep(30)

    with pytest.raises(Terminated):
        free()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_command_that_is_told_to_end_has_logged_its_queries(
    number: signal.Signals, code: int, routing_index: Path
) -> None:
    with FakeProvider() as provider:
        deployment = {"name": "small-1", "model": "small", "base_url": provider.base_url}
        Path("semroute.yaml").write_text(yaml.safe_dump({"deployments": [deployment], "index": str(routing_index)}))
        provider.script(hang(30.0))
        command = [sys.executable, "-m", "semroute.cli.main", "ask", "recipe for carrot soup"]
        asking = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not provider.requests and asking.poll() is None:
            time.sleep(0.05)
        asking.send_signal(number)
        _, errors = asking.communicate(timeout=60)
    assert asking.returncode == code, errors
    with open_log(Log(), {}, must_exist=True) as log:
        (found,) = log.outcomes()
    assert (found.query, found.error_kind) == ("recipe for carrot soup", "Cancelled")


@pytest.mark.slow
def test_a_command_that_routes_what_arrives_has_logged_it_when_it_is_told_to_end(routing_index: Path) -> None:
    command = [sys.executable, "-m", "semroute.cli.main", "route", "--file", "-", "--index", str(routing_index)]
    routing = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert routing.stdin is not None
    assert routing.stdout is not None
    routing.stdin.write('{"query": "boil an egg"}\n')
    assert "boil an egg" in routing.stdout.readline()
    routing.terminate()  # well before the half second after which the log is written
    routing.communicate(timeout=60)
    assert routing.returncode == 143
    with open_log(Log(), {}, must_exist=True) as log:
        assert [one.query for one in log.outcomes()] == ["boil an egg"]

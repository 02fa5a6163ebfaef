from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from semroute.cli.interrupts import AGAIN_S, not_lost

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

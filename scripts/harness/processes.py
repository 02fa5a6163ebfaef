"""Processes of a measurement: contenders, and timed commands.

A contender reads an action a line from standard input, as JSON, and answers with a line. Standard library alone, since
it also runs in the peers' own environments.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

SCRIPTS = Path(__file__).resolve().parents[1]
ROOT = SCRIPTS.parent
QUIET = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "TQDM_DISABLE": "1"}
"""Environment that forbids look-ups on a network, and progress bars."""


def environment(checkout: Path | None = None, **more: str) -> dict[str, str]:
    """Return a contender's environment: its checkout, and the scripts."""
    paths = [str(checkout.resolve()) if checkout else None, str(SCRIPTS), os.environ.get("PYTHONPATH")]
    return os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | more


# The contender's side.


def answer_channel() -> TextIO:
    """Return the original standard output, reserved for answers.

    From here on, text that a library prints goes to standard error.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def serve(actions: Mapping[str, Callable[..., object]], answers: TextIO) -> None:
    """Run the action of each line of standard input, with its arguments.

    It announces first that the contender is ready, and ends with the input. Results are JSON-ready.
    """
    _say(answers, "ready")
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        _say(answers, actions[asked.pop("do")](**asked))


async def serve_async(actions: Mapping[str, Callable[..., Awaitable[object]]], answers: TextIO) -> None:
    """Run asynchronous actions; as :func:`serve` otherwise."""
    _say(answers, "ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked: dict[str, Any] = json.loads(line)
        _say(answers, await actions[asked.pop("do")](**asked))


def _say(answers: TextIO, value: object) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


# The benchmark's side.


def module(name: str, *arguments: object) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *map(str, arguments)]


class Worker:
    """Contender's process; it is ready when the constructor returns.

    Args:
        command: starts it.
        checkout: whose package it imports; None is that of this process.

    Attributes:
        start_s: wall time from the start of the process until it is ready, seconds.
    """

    def __init__(self, command: Sequence[str], checkout: Path | None = None) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=checkout,
            env=environment(checkout),
        )
        self.answer()
        self.start_s = time.perf_counter() - start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ask(self, do: str, **arguments: object) -> Any:
        """Return the contender's answer to an action."""
        self.tell(do, **arguments)
        return self.answer()

    def tell(self, do: str, **arguments: object) -> None:
        """Start an action; :meth:`answer` waits for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return the answer to the oldest pending action."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise SystemExit(f"{self._process.args!r} ended with {self._process.returncode}; its messages are above")
        return json.loads(line)


@dataclass(frozen=True, slots=True)
class Taken:
    """Wall and CPU seconds of a process, and its standard output."""

    wall: float
    cpu: float
    output: str


def timed(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Taken:
    """Run a command to its end, and time it.

    Raises:
        SystemExit: it failed; the message has the end of its standard error.
    """
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(wall, cpu, done.stdout)


def semroute(*arguments: object, checkout: Path = ROOT) -> Taken:
    """Run a command of semroute with the package of a checkout, and time it."""
    words = [word.resolve() if isinstance(word, Path) else word for word in arguments]
    # "-m" looks into the current folder first.
    return timed(module("semroute.cli.main", *words), cwd=checkout, env=environment(checkout))

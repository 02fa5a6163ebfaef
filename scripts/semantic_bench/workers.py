"""Client side of a contender's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCRIPTS = Path(__file__).resolve().parent.parent


class Worker:
    """Contender's process, ready after its first decision.

    Attributes:
        start_s: wall time from the start of the process to its first decision, seconds.
    """

    def __init__(self, command: list[str]) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            # No look-up on a network, and no progress bars.
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(SCRIPTS)},
        )
        self._answer()
        self.start_s = time.perf_counter() - start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ask(self, do: str, texts: list[str]) -> Any:
        """Return the contender's answer to an action on texts."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "texts": texts}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args!r} ended with {self._process.wait()}; its messages are above")
        return json.loads(line)


def semroute_command(index: Path, query: str) -> list[str]:
    """Return the command that starts semroute from an artifact."""
    return [sys.executable, "-m", "semantic_bench.contenders", "semroute", str(index), query]


def plain_command(examples: Path, vectors: Path, query: str) -> list[str]:
    """Return the command that starts the sentence-transformers loop."""
    return [sys.executable, "-m", "semantic_bench.contenders", "plain", str(examples), str(vectors), query]


def peer_command(peer: Path, examples: Path, vectors: Path, query: str) -> list[str]:
    """Return the command that starts semantic-router with ``peer``."""
    return [str(peer), str(SCRIPTS / "peer_semantic_router.py"), str(examples), str(vectors), query]

"""Commands that start the contenders."""

from __future__ import annotations

from pathlib import Path

from harness.processes import SCRIPTS, module


def semroute_command(index: Path, query: str) -> list[str]:
    """Return the command that starts semroute from an artifact."""
    return module("semantic_bench.contenders", "semroute", index, query)


def plain_command(examples: Path, vectors: Path, query: str) -> list[str]:
    """Return the command that starts the sentence-transformers loop."""
    return module("semantic_bench.contenders", "plain", examples, vectors, query)


def peer_command(peer: Path, examples: Path, vectors: Path, query: str) -> list[str]:
    """Return the command that starts semantic-router with ``peer``."""
    return [str(peer), str(SCRIPTS / "peer_semantic_router.py"), str(examples), str(vectors), query]

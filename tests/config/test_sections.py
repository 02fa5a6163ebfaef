"""What all sections share: defaults that need no schema, and schemas that are built at first use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import semroute
from semroute.config import Config
from semroute.config.values import Section


def sections(base: type[Section] = Section) -> list[type[Section]]:
    return [found for one in base.__subclasses__() for found in (one, *sections(one))]


def defaults() -> list[Section]:
    """The sections that stand where a file leaves their key out, and the whole of a file that is not there."""
    fields = (field for one in sections() for field in one.model_fields.values())
    return [Config.default(), *(field.default for field in fields if isinstance(field.default, Section))]


@pytest.mark.parametrize("default", defaults(), ids=lambda default: type(default).__name__)
def test_a_missing_section_equals_an_empty_one(default: Section) -> None:
    read = type(default).model_validate({})
    assert default == read
    assert default.model_fields_set == read.model_fields_set == set()
    assert default.model_dump(mode="json") == read.model_dump(mode="json")


@pytest.mark.slow
def test_threads_that_read_at_once_wait_for_one_schema(tmp_path: Path) -> None:
    """In a process of its own, since a schema is built once."""
    program = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from semroute.config import Config

sys.setswitchinterval(1e-6)
assert not Config.__pydantic_complete__, "it was built on import"
start = threading.Barrier(8)

def read(number):
    start.wait()
    return Config.model_validate({"fallback": {"models": [f"m{number}"]}, "retries": {"attempts": 2}})

with ThreadPoolExecutor(8) as threads:
    found = list(threads.map(read, range(8)))
assert [one.fallback.models for one in found] == [(f"m{number}",) for number in range(8)]
"""
    root = Path(semroute.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr

from __future__ import annotations

import subprocess
import sys

import pytest

import semroute

HEAVY = ("torch", "sentence_transformers", "faiss", "onnxruntime", "numpy", "pydantic", "httpx", "sklearn")
TIMED = """
import sys, time
start = time.perf_counter()
import semroute
print(time.perf_counter() - start)
print(*[name for name in %r if name in sys.modules])
"""


@pytest.mark.torch(needed=False)
def test_importing_semroute_takes_no_time_and_brings_nothing_heavy() -> None:
    found = [
        subprocess.run([sys.executable, "-c", TIMED % (HEAVY,)], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    assert [text.splitlines()[1] for text in found] == ["", "", ""]
    assert min(float(text.splitlines()[0]) for text in found) < 0.3


def test_the_public_names_are_there() -> None:
    assert all(getattr(semroute, name) is not None for name in semroute.__all__)
    assert semroute.__version__.count(".") == 2


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'roote'"):
        semroute.roote  # noqa: B018

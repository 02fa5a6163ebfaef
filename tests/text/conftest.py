"""What the tests of texts share: a count of the work that takes more than linear time."""

from __future__ import annotations

import re
import unicodedata

import pytest


@pytest.fixture
def runs_of_marks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the runs of marks that :func:`unicodedata.normalize` is given; its time grows with their squares."""
    runs: list[int] = []
    normalize = unicodedata.normalize

    def counting(form: str, text: str) -> str:
        runs.extend(len(run) for run in re.findall("[\u0301\u0327]+", text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", counting)
    return runs

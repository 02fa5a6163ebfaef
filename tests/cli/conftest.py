from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands leave a log and a state in the working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def chosen_index(routing_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands take ``routing_index`` where they name no other."""
    monkeypatch.setenv("SEMROUTE_INDEX", str(routing_index))

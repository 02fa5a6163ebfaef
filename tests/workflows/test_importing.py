from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.errors import DataError
from semroute.workflows.importing import import_labelled_data


@pytest.fixture
def tickets() -> Path:
    path = Path("tickets.csv")
    path.write_text("text,label\nfix my loop,code\nboil an egg,cooking\nboil an egg,cooking\n")
    return path


def test_labelled_rows_become_a_file_for_each_category(tickets: Path) -> None:
    made = import_labelled_data(tickets, Path("out"))
    assert sorted(path.name for path in Path("out").iterdir()) == ["code.yaml", "cooking.yaml"]
    found = json.loads(json.dumps(made.to_dict()))
    assert (found["rows"], found["examples"], found["duplicates"], found["written"]) == (3, 2, 1, True)
    assert found["categories"]["code"] == {"examples": 1, "file": "out/code.yaml"}


def test_a_dry_run_plans_the_same_files_and_writes_none(tickets: Path) -> None:
    planned = import_labelled_data(tickets, Path("out"), write=False).to_dict()
    assert not Path("out").exists()
    assert {**planned, "written": True} == import_labelled_data(tickets, Path("out")).to_dict()


def test_existing_files_are_replaced_only_by_force(tickets: Path) -> None:
    import_labelled_data(tickets, Path("out"))
    with pytest.raises(DataError, match="already"):
        import_labelled_data(tickets, Path("out"))
    assert import_labelled_data(tickets, Path("out"), force=True).is_written

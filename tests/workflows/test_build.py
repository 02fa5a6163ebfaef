from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.config import Config
from semroute.data.categories import shipped_folder
from semroute.errors import DataError
from semroute.index import open_artifact
from semroute.workflows.build import BuildPlan, build, default_source


@pytest.fixture
def categories() -> Path:
    folder = Path("categories")
    folder.mkdir()
    (folder / "code.txt").write_text("fix this traceback\nwrite a sql join\nexplain git rebase\nunit test a parser\n")
    (folder / "cooking.txt").write_text("boil an egg\nrecipe for soup\nknead bread dough\nseason a pan\n")
    return folder


@pytest.mark.slow
def test_a_build_is_an_index_that_can_be_opened_and_reports_itself(categories: Path) -> None:
    steps = set[str]()
    result = build(
        categories, Config(), Path("out"), BuildPlan(head=False), progress=lambda step, done, total: steps.add(step)
    )
    assert sorted(open_artifact(Path("out")).manifest.categories) == ["code", "cooking"]
    assert "embedding" in steps
    found = json.loads(json.dumps(result.to_dict()))
    assert (found["path"], found["source"], found["tuned"], found["head"]) == ("out", "categories", None, None)
    assert found["seconds"] > 0
    assert found["findings"], "four examples are few"
    assert (result.lacks_first_stage, result.encoder_line) == (False, None)


def test_a_label_of_the_validation_without_a_category_is_refused_before_the_build(categories: Path) -> None:
    Path("labelled.jsonl").write_text('{"query": "is my lease binding", "category": "law"}\n')
    with pytest.raises(DataError, match="law"):
        build(categories, Config(), Path("out"), BuildPlan(head=False, validation=Path("labelled.jsonl")))
    assert not Path("out").exists()


def test_the_shipped_categories_are_the_source_where_there_are_no_others() -> None:
    assert default_source() == shipped_folder()
    Path("categories").mkdir()
    assert default_source() == Path("categories")

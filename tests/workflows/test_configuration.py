from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.errors import ConfigError
from semroute.workflows.configuration import check_configuration, write_template


def keys(checked: object) -> list[tuple[str, str]]:
    return [(one.severity, one.key) for one in checked.problems]  # type: ignore[attr-defined]


def test_a_missing_file_is_the_only_problem_of_an_empty_folder() -> None:
    checked = check_configuration()
    assert keys(checked) == [("error", "")]
    assert "semroute init" in checked.problems[0].text
    assert not checked.ok
    assert json.loads(json.dumps(checked.to_dict()))["ok"] is False


@pytest.mark.slow
def test_an_index_that_is_named_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    write_template()
    assert check_configuration().ok
    named = check_configuration(index=Path("nowhere"))
    assert not named.ok
    assert "--index: there is no index in nowhere" in named.problems[0].text
    monkeypatch.setenv("SEMROUTE_INDEX", "elsewhere")
    assert "SEMROUTE_INDEX: there is no index in elsewhere" in check_configuration().problems[0].text


def test_an_index_that_the_file_names_may_be_built_later() -> None:
    Path("semroute.yaml").write_text("index: idx\n")
    checked = check_configuration()
    assert checked.ok
    assert ("warning", "index") in keys(checked)
    (problem,) = (one for one in checked.problems if one.key == "index")
    assert problem.line == 1
    assert "semroute build-index" in problem.text


def test_the_named_index_of_a_folder_without_a_file_is_checked_as_well(routing_index: Path) -> None:
    assert keys(check_configuration(index=Path("nowhere"))) == [("error", ""), ("error", "")]
    assert keys(check_configuration(index=routing_index)) == [("error", "")]


@pytest.mark.slow
def test_the_template_is_valid_and_is_not_replaced_unasked() -> None:
    assert write_template(Path()) == Path("semroute.yaml")
    assert check_configuration().ok
    Path("semroute.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="already there"):
        write_template()
    assert Path("semroute.yaml").read_text() == "mine"
    write_template(force=True)
    assert Path("semroute.yaml").read_text() != "mine"

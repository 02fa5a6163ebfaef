from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from semroute.cli.main import cli
from semroute.config import load_config
from semroute.config.load import template
from semroute.errors import ConfigError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments])


def test_it_writes_the_template_and_says_what_comes_next() -> None:
    done = run()
    assert done.exit_code == 0
    assert Path("semroute.yaml").read_text(encoding="utf-8") == template()
    assert "wrote semroute.yaml" in done.output
    assert "semroute config check" in done.output
    assert load_config().deployments_of("small")


def test_it_does_not_replace_a_file_unless_forced() -> None:
    Path("semroute.yaml").write_text("index: mine\n")
    error = run().exception
    assert isinstance(error, ConfigError)
    assert "semroute.yaml: is already there; --force replaces it" in str(error)
    assert Path("semroute.yaml").read_text() == "index: mine\n"
    assert run("--force").exit_code == 0
    assert Path("semroute.yaml").read_text(encoding="utf-8") == template()


def test_where_the_disk_is_full_force_leaves_what_was_there(
    full_disk: Callable[[], AbstractContextManager[None]],
) -> None:
    Path("semroute.yaml").write_text("index: mine\n")
    with full_disk():
        error = run("--force").exception
    assert isinstance(error, ConfigError)
    assert "cannot be written: File too large" in str(error)
    assert {path.name: path.read_text() for path in Path.cwd().iterdir() if path.is_file()} == {
        "semroute.yaml": "index: mine\n"
    }


def test_a_path_is_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert run("--path", "sub").exit_code == 0
    assert run("--path", "sub/other.yaml").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["other.yaml", "semroute.yaml"]


def test_a_folder_that_is_not_there_is_named() -> None:
    error = run("--path", "nowhere/semroute.yaml").exception
    assert isinstance(error, ConfigError)
    assert str(error) == f"{Path('nowhere/semroute.yaml')}: cannot be written: No such file or directory"

from __future__ import annotations

from pathlib import Path

import pytest

from semroute import __version__
from semroute.config import Config
from semroute.errors import ArtifactBusyError
from semroute.index.manifest import MANIFEST
from semroute.learn import build as pipeline
from semroute.router import load
from semroute.router.load import ENVIRONMENT, locate_index, shipped_index


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(load.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)


def index_at(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text("{}")
    return folder


def test_the_argument_goes_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    index_at(Path(".semroute/index"))
    monkeypatch.setenv(ENVIRONMENT, "from-environment")
    assert locate_index("given", Config()) == Path("given")
    assert locate_index(Path("given"), Config()) == Path("given")


def test_the_environment_goes_before_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    index_at(Path(".semroute/index"))
    monkeypatch.setenv(ENVIRONMENT, "from-environment")
    assert locate_index(None, Config(index=Path("configured"))) == Path("from-environment")


@pytest.mark.parametrize("value", [None, ""])
def test_an_environment_that_names_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv(ENVIRONMENT, value)
    assert locate_index(None, Config()) is None


def test_the_working_folder_is_looked_into() -> None:
    index_at(Path(".semroute/index"))
    assert locate_index(None, Config()) == Path(".semroute/index")


def test_a_configured_folder_is_meant_even_where_nothing_is() -> None:
    assert locate_index(None, Config(index=Path("elsewhere"))) == Path("elsewhere")


def test_the_shipped_index_is_built_once_in_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[Path] = []

    def build(source: Path, folder: Path, **_: object) -> None:
        assert (source / "code.yaml").is_file()
        built.append(index_at(folder))

    monkeypatch.setattr(pipeline, "build_index", build)
    first = shipped_index()
    assert shipped_index() == first
    assert built == [first]
    assert first.parent == tmp_path / "cache" / "semroute"
    assert first.name.startswith(f"shipped-{__version__}-")


def test_another_process_that_builds_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def busy(source: Path, folder: Path, **_: object) -> None:
        if not waited:
            raise ArtifactBusyError("another build")
        index_at(folder)

    monkeypatch.setattr(pipeline, "build_index", busy)
    monkeypatch.setattr(load.time, "sleep", waited.append)
    assert (shipped_index() / MANIFEST).exists()
    assert len(waited) == 1


def test_it_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(source: Path, folder: Path, **_: object) -> None:
        raise ArtifactBusyError("another build")

    monkeypatch.setattr(pipeline, "build_index", busy)
    monkeypatch.setattr(load, "WAIT_S", -1.0)
    with pytest.raises(ArtifactBusyError):
        shipped_index()

"""Relative paths of a configuration begin at the folder of its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from semroute.config import Config, load_config
from semroute.config.load import overlaid
from semroute.errors import ConfigError
from semroute.router.load import locate_index

EVERY_PATH = """
index: own/index
encoder: {kind: torch, model: encoder}
classifier: classifier
cascade: {tiers: [a, {use: b, accept: {quality: checks-b}}], accept: {quality: {classifier: checks}}}
categories: {code: {cascade: {tiers: [a, b], accept: {quality: checks-code}}}}
log: {url: "sqlite:///log.db?timeout=5", spool: spool}
trial: {policy: policy.yaml, state: state.json}
policies: {thrifty: thrifty.yaml}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration, seen from a folder beside it."""
    folder, here = tmp_path / "project", tmp_path / "here"
    (folder / "encoder").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    return folder


def written(folder: Path, text: str, name: str = "semroute.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def paths_of(value: Any) -> Iterator[Path]:
    """Find every path of a configuration."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        for name in value.model_fields_set:
            yield from paths_of(getattr(value, name))
    elif isinstance(value, tuple | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from paths_of(inner)


def path_fields(section: type[BaseModel], seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """Find every key of the schema that takes a path."""
    for name, field in section.model_fields.items():
        waiting = [field.annotation]
        while waiting:
            one = waiting.pop()
            if one is Path:
                yield f"{section.__name__}.{name}"
            elif isinstance(one, type) and issubclass(one, BaseModel) and one not in seen:
                yield from path_fields(one, seen | {section, one})
            waiting += get_args(one)


def test_every_path_begins_at_the_folder_of_the_file(project: Path) -> None:
    config = load_config(written(project, EVERY_PATH))
    found = set(paths_of(config))
    names = (
        "own/index",
        "classifier",
        "checks",
        "checks-b",
        "checks-code",
        "policy.yaml",
        "state.json",
        "thrifty.yaml",
        "spool",
    )
    assert found == {project / name for name in names}
    assert config.log.url == f"sqlite:///{project / 'log.db'}?timeout=5"
    assert config.encoder is not None
    assert config.encoder.model == str(project / "encoder")


def test_the_example_holds_every_key_of_the_schema_that_takes_a_path() -> None:
    assert set(path_fields(Config)) == {
        "Config.index", "Classifier.folder", "Quality.classifier", "ExperimentConfig.policy", "ExperimentConfig.state",
        "Config.policies", "Log.spool",
    }  # fmt: skip


def test_in_the_folder_of_the_file_paths_stay_as_they_are_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(project, EVERY_PATH)
    monkeypatch.chdir(project)
    config = load_config()
    assert (config.index, config.classifier.folder) == (Path("own/index"), Path("classifier"))
    assert config.log.url == "sqlite:///log.db?timeout=5"


def test_absolute_paths_and_the_home_folder_stay(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    config = load_config(written(project, 'index: /srv/index\nclassifier: ~/clf\nlog: {url: "sqlite:///~/log.db"}\n'))
    assert (config.index, config.classifier.folder) == (Path("/srv/index"), Path("/home/somebody/clf"))
    assert config.log.url == "sqlite:////home/somebody/log.db"
    memory = load_config(written(project, 'log: {url: "sqlite:///:memory:"}\n'))
    assert memory.log.url == "sqlite:///:memory:"


def test_missing_paths_default_to_the_files_folder_then_the_working_folder(project: Path) -> None:
    path = written(project, "fallback: {models: [large]}\n")
    before = load_config(path)
    assert (before.index, before.log.url) == (Path(".semroute/index"), "sqlite:///.semroute/log.db")
    written(project, "", ".semroute/index/manifest.json")
    written(project, "", ".semroute/log.db")
    after = load_config(path)
    assert after.index == project / ".semroute/index"
    assert after.log.url == f"sqlite:///{project / '.semroute/log.db'}"
    assert locate_index(None, after) == project / ".semroute/index"


def test_the_default_index_that_is_written_out_and_missing_is_still_the_default(project: Path) -> None:
    assert locate_index(None, load_config(written(project, "index: .semroute/index\n"))) is None
    assert locate_index(None, load_config(written(project, "index: other\n"))) == project / "other"


@pytest.mark.parametrize("out", ["policy", "a/policy", "../project/policy"])
def test_a_policy_finds_its_classifier_alone_overlaid_and_pasted(project: Path, out: str) -> None:
    folder = project / out.removeprefix("../project/")
    (folder / "0123456789ab" / "classifier").mkdir(parents=True)
    text = f"classifier: {{folder: {out}/0123456789ab/classifier}}\n"
    policy = written(folder, text, "policy.yaml")
    base = load_config(written(project, "fallback: {models: [large]}\n"))
    for config in (load_config(policy), overlaid(base, policy), load_config(written(project, text))):
        assert config.classifier.folder is not None
        assert config.classifier.folder.resolve() == folder / "0123456789ab" / "classifier"


def test_an_overlay_keeps_the_paths_of_other_sections(project: Path) -> None:
    policy = written(project / "policies", "strategies: [semantic]\n", "new.yaml")
    base = load_config(written(project, EVERY_PATH))
    made = overlaid(base, policy)
    assert (made.index, made.classifier, made.log) == (base.index, base.classifier, base.log)


def test_a_policy_that_is_missing_is_named_with_its_key_and_whole_path(project: Path) -> None:
    config = load_config(written(project, "trial: {policy: nowhere.yaml}\n"))
    assert config.trial.policy is not None
    with pytest.raises(ConfigError, match=r"trial\.policy: no such file") as refused:
        overlaid(config, config.trial.policy)
    assert str(project / "nowhere.yaml") in str(refused.value)

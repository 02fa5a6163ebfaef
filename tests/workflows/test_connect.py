"""Coding agents' configurations: what is changed, what stays, and what comes back."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.errors import InputError
from semroute.workflows.connect import AGENTS, connect, disconnect

pytest.importorskip("tomlkit", reason='needs the extra "serve"')

ADDRESS = "http://127.0.0.1:8080"
OWN = {
    "codex": '# mine\nmodel = "gpt-9"  # the best\napproval_policy = "never"\n\n[model_providers.other]\nname = "x"\n',
    "claude-code": '{"model": "opus", "env": {"FOO": "1"}, "permissions": {"allow": ["Bash"]}}',
    "opencode": '{"theme": "dark", "provider": {"mine": {"npm": "x"}}}',
}


def parsed(path: Path) -> object:
    text = path.read_text()
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_without_a_file_gets_one_and_undoing_removes_it(name: str, tmp_path: Path) -> None:
    change = connect(AGENTS[name], ADDRESS, home=tmp_path, env={})
    assert not change.path.exists()
    assert ADDRESS in change.diff
    change.apply()
    assert ADDRESS in change.path.read_text()
    disconnect(AGENTS[name], home=tmp_path, env={}).apply()
    assert not change.path.exists()
    assert list(change.path.parent.iterdir()) == []


@pytest.mark.parametrize("name", AGENTS)
def test_other_settings_and_comments_stay_and_undoing_restores_those_of_before(name: str, tmp_path: Path) -> None:
    path = AGENTS[name].path(tmp_path, {})
    path.parent.mkdir(parents=True)
    path.write_text(OWN[name])
    before = parsed(path)
    connect(AGENTS[name], ADDRESS, home=tmp_path, env={}).apply()
    connect(AGENTS[name], "http://127.0.0.1:9", home=tmp_path, env={}).apply()
    assert "http://127.0.0.1:9" in path.read_text()
    if path.suffix == ".toml":
        assert "# mine" in path.read_text()
    disconnect(AGENTS[name], home=tmp_path, env={}).apply()
    assert parsed(path) == before
    with pytest.raises(InputError, match="not connected"):
        disconnect(AGENTS[name], home=tmp_path, env={})


def test_what_was_changed_meanwhile_stays(tmp_path: Path) -> None:
    agent = AGENTS["claude-code"]
    connect(agent, ADDRESS, home=tmp_path, env={}).apply()
    path = agent.path(tmp_path, {})
    path.write_text(json.dumps({**json.loads(path.read_text()), "theme": "light"}))
    disconnect(agent, home=tmp_path, env={}).apply()
    assert json.loads(path.read_text()) == {"theme": "light"}


def test_a_file_that_changes_between_showing_and_writing_is_left_alone(tmp_path: Path) -> None:
    agent = AGENTS["codex"]
    change = connect(agent, ADDRESS, home=tmp_path, env={})
    change.path.parent.mkdir(parents=True)
    change.path.write_text('model = "mine"\n')
    with pytest.raises(InputError, match="another program"):
        change.apply()
    assert change.path.read_text() == 'model = "mine"\n'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("codex", "model = \n", ":1:"),
        ("claude-code", "{\n// a comment\n}", ":2: it is not plain JSON"),
        ("opencode", "[1]", "not an object"),
        ("claude-code", '{"env": 3}', "env is no table"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line_and_left_alone(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    path = AGENTS[name].path(tmp_path, {})
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        connect(AGENTS[name], ADDRESS, home=tmp_path, env={})
    assert path.read_text() == text


def test_a_variable_moves_the_folder(tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    assert AGENTS["codex"].path(tmp_path, {"CODEX_HOME": str(moved)}) == moved / "config.toml"


@pytest.mark.slow
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.booleans())))
def test_undoing_restores_any_settings(settings: dict[str, object]) -> None:
    from tempfile import TemporaryDirectory

    agent = AGENTS["opencode"]
    with TemporaryDirectory() as folder:
        path = agent.path(Path(folder), {})
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
        if "provider" not in settings:
            connect(agent, ADDRESS, home=Path(folder), env={}).apply()
            disconnect(agent, home=Path(folder), env={}).apply()
        assert json.loads(path.read_text()) == settings

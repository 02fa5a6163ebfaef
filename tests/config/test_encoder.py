from __future__ import annotations

from pathlib import Path

import pytest

from semroute.config import Config, NamedEncoder, load_config
from semroute.config.load import validate
from semroute.encoders.registry import config_line, is_named


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "encoder: {kind: remote, base_url: 'https://host/v1/', model: m, api_key_env: KEY}",
            NamedEncoder(kind="remote", base_url="https://host/v1", model="m", api_key_env="KEY"),
        ),
        ("encoder: {kind: torch, model: org/model}", NamedEncoder(kind="torch", model="org/model")),
        ("encoder:", None),
        ("", None),
    ],
)
def test_an_encoder_section_must_be_complete(text: str, expected: NamedEncoder | None) -> None:
    config, problems = validate(text)
    assert problems == ()
    assert config is not None
    assert config.encoder == expected


@pytest.mark.parametrize(
    ("section", "key", "said"),
    [
        ("{kind: remote, model: m}", "encoder.base_url", "is missing"),
        ("{kind: torch, model: m, base_url: 'https://host/v1'}", "encoder.base_url", "is for a remote encoder"),
        ("{kind: torch, model: m, api_key_env: KEY}", "encoder.api_key_env", "is for a remote encoder"),
        ("{kind: onnx, model: m}", "encoder.kind", "must be 'remote', 'torch' or 'plugin'"),
        ("{kind: remote, model: m, base_url: 'ftp://host'}", "encoder.base_url", "http:// or https://"),
        (
            "{kind: remote, model: m, base_url: 'https://h', api_key_env: sk-secret}",
            "encoder.api_key_env",
            "in capitals",
        ),
    ],
)
def test_invalid_values_are_named_by_key(section: str, key: str, said: str) -> None:
    _, problems = validate(f"encoder: {section}")
    assert [problem.key for problem in problems] == [key]
    assert said in problems[0].text
    assert "sk-secret" not in problems[0].text


@pytest.mark.parametrize(
    "description",
    [
        {"kind": "remote", "base_url": "https://host/v1", "model": "m", "api_key_env": "KEY"},
        {"kind": "remote", "base_url": "https://host/v1", "model": 'm: "x" # y', "api_key_env": None},
        {"kind": "torch", "model": "org/model"},
        {"kind": "torch", "model": "C:\\models\\mine"},
    ],
)
def test_the_suggested_line_names_the_encoder_in_the_file(tmp_path: Path, description: dict[str, str]) -> None:
    line = config_line(description)
    assert line is not None
    (tmp_path / "semroute.yaml").write_text(f"index: x\n{line}\n")
    assert is_named(description, load_config(tmp_path / "semroute.yaml").encoder)
    assert not is_named(description, None)


def test_an_encoder_of_the_indexs_own_files_needs_no_line() -> None:
    assert config_line({"kind": "onnx"}) is None
    assert config_line({"kind": "static"}) is None


def test_a_folder_is_the_same_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    description = {"kind": "torch", "model": str((tmp_path / "model").resolve())}
    for path in ("model", "./model", str(tmp_path / "model")):
        assert is_named(description, NamedEncoder(kind="torch", model=path))
    assert not is_named({"kind": "torch", "model": "model"}, NamedEncoder(kind="torch", model="model"))
    assert Config().encoder is None

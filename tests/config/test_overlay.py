from __future__ import annotations

from pathlib import Path

import pytest

from semroute.config import Config
from semroute.config.load import overlaid, template, validate
from semroute.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def base() -> Config:
    config, problems = validate(template())
    assert config is not None, problems
    return config


def test_an_empty_overlay_changes_nothing(tmp_path: Path) -> None:
    assert overlaid(base(), written(tmp_path, "{}\n")) == base()


def test_overlaid_sections_replace_existing_ones(tmp_path: Path) -> None:
    config = Config.model_validate(
        {"categories": {"law": {"models": ["large"], "threshold": 0.3}}, "fallback": {"models": ["large"]}}
    )
    found = overlaid(config, written(tmp_path, "strategies: [semantic]\ncategories: {law: {models: [small]}}\n"))
    assert found.strategies == ("semantic",)
    assert found.categories["law"].models == ("small",)
    assert found.categories["law"].threshold == 0.3, "what is not said of a category stays"
    assert found.fallback.models == ("large",)


def test_a_trial_has_no_trial_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "strategies: [rules]\n")
    config = Config.model_validate({"trial": {"policy": str(path), "share": 0.5}})
    assert overlaid(config, path).trial.policy is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strategies: [guess]\n", r"policy\.yaml:1"),
        ("[1]\n", "mapping"),
        ("a: [\n", r"policy\.yaml"),
        ("groups: {a: [unknown]}\nmodels: {small: {}}\n", "unknown"),
    ],
)
def test_problems_name_the_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        overlaid(Config(), written(tmp_path, text))
    with pytest.raises(ConfigError, match="no such file"):
        overlaid(Config(), tmp_path / "nowhere.yaml")

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from semroute.config.check import check_config
from semroute.config.deployments import VENDORS
from semroute.config.load import template, validate
from semroute.config.schema import Config

CATEGORIES = Path(__file__).parents[2] / "categories"


def shipped() -> dict[str, list[str]]:
    files = sorted(CATEGORIES.glob("*.yaml"))
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["models"] for file in files}


def parsed(text: str) -> Config:
    config, problems = validate(text)
    assert problems == ()
    assert config is not None
    return config


@pytest.mark.slow
def test_the_template_serves_every_model_of_the_shipped_categories_and_no_other() -> None:
    assert len(shipped()) >= 12
    assert check_config(parsed(template()), category_models=shipped(), env={"OPENAI_API_KEY": "x"}) == []


@pytest.mark.slow
def test_the_template_needs_only_the_key() -> None:
    problems = check_config(parsed(template()), category_models=shipped(), env={})
    assert [(problem.severity, problem.fix) for problem in problems] == [("warning", "export OPENAI_API_KEY")]


def test_the_examples_that_are_commented_out_are_valid_as_well() -> None:
    text = template().replace("categories: {}\n# categories:\n#   code:", "categories:\n  code:")
    text = text.replace("groups: {}\n# groups:\n#   frontier:", "groups:\n  frontier:")
    text = text.replace("models:\n", "models:\n  claude: {}\n  gemini: {}\n", 1)
    text, count = re.subn(r"^  # (- \{name: .*)$", r"  \1", text, flags=re.MULTILINE)
    config = parsed(text)
    assert count == 4
    formats = {deployment.name: deployment.format for deployment in config.deployments}
    assert (formats["claude"], formats["gemini"], formats["local-small"]) == ("anthropic", "gemini", "openai")
    assert config.categories["code"].threshold == 0.42
    assert [place.name for place in config.deployments_of("frontier")] == ["openai-large", "claude", "gemini"]


def test_the_templates_retry_settings_are_the_defaults() -> None:
    written, bare = parsed(template()), Config()
    for section in ("selection", "retries", "hedging", "breaker", "budgets", "state"):
        assert getattr(written, section) == getattr(bare, section), section


def test_the_template_names_every_section_and_every_vendor() -> None:
    assert all(re.search(rf"\b{key}:", template()) for key in Config.model_fields if key != "state_password_env")
    assert "state_password_env" in template()
    assert all(re.search(rf"\b{vendor}\b", template()) for vendor in VENDORS)


def test_the_template_keeps_to_the_width_of_a_screen() -> None:
    assert all(len(line) <= 120 for line in template().splitlines())


def test_every_deployment_of_the_template_leaves_time_for_a_second_try() -> None:
    config = parsed(template())
    assert all(deployment.timeout_s < config.retries.deadline_s for deployment in config.deployments)

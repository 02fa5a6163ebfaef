from __future__ import annotations

import re
from pathlib import Path

import yaml

from semroute.config.check import check_config
from semroute.config.load import validate
from semroute.config.schema import Config
from semroute.config.template import template

CATEGORIES = Path(__file__).parents[2] / "categories"


def shipped() -> dict[str, list[str]]:
    files = sorted(CATEGORIES.glob("*.yaml"))
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["models"] for file in files}


def parsed(text: str) -> Config:
    config, problems = validate(text)
    assert problems == ()
    assert config is not None
    return config


def test_the_template_serves_every_model_of_the_shipped_categories_and_no_other() -> None:
    assert len(shipped()) >= 12
    assert check_config(parsed(template()), category_models=shipped(), env={"OPENAI_API_KEY": "x"}) == []


def test_the_only_thing_that_the_template_lacks_is_the_key() -> None:
    problems = check_config(parsed(template()), category_models=shipped(), env={})
    assert [(problem.severity, problem.fix) for problem in problems] == [("warning", "export OPENAI_API_KEY")]


def test_every_model_of_the_template_has_a_price() -> None:
    models = parsed(template()).models
    assert all(model.price is not None and model.price.output > model.price.input > 0 for model in models.values())


def test_the_examples_that_are_commented_out_are_valid_as_well() -> None:
    text = template().replace("categories: {}\n# categories:\n#   code:", "categories:\n  code:")
    text, count = re.subn(r"^  # (- \{name: .*)$", r"  \1", text, flags=re.MULTILINE)
    config = parsed(text)
    assert count == 2
    assert {"local-small", "ollama-small"} <= {deployment.name for deployment in config.deployments}
    assert config.categories["code"].threshold == 0.42

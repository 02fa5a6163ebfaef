"""Names from a closed set, wherever a command takes one: an unknown one gets the one that was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from semroute.cli.main import cli

CONFIG = """
deployments:
  - {name: openai-small, model: small, base_url: "http://localhost:1/v1", price: {input: 1, output: 1}}
  - {name: openai-large, model: large, base_url: "http://localhost:1/v1", price: {input: 1, output: 1}}
"""
ROW = {"query": "2 + 2?", "outcomes": {name: {"quality": 1, "response": "4"} for name in ("small", "large")}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("train", "o.jsonl", "--out", "x", "--head", "lineer"), "linear"),
        (("evaluate-policy", "o.jsonl", "--policy", "prompt-lenght"), "prompt-length"),
        (("train-checks", "o.jsonl", "--out", "x", "--block", "shap"), "shape"),
        (("build-index", "--encoder", "remot"), "remote"),
        (("train-checks", "o.jsonl", "--out", "x", "--model", "smal"), "small"),
        (("evaluate-policy", "o.jsonl", "--models", "smal,large"), "small"),
        (("collect", "--max-usd", "1", "--out", "x.jsonl", "--models", "larg"), "large"),
        (("label", "o.jsonl", "--out", "x.jsonl", "--judge", "larg"), "large"),
        (("providers", "enable", "openai-smal"), "openai-small"),
        (("trainn",), "train"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, tuple) else value,
)
def test_the_name_that_was_meant_is_asked_for(arguments: tuple[str, ...], meant: str) -> None:
    Path("semroute.yaml").write_text(CONFIG)
    Path("o.jsonl").write_text(json.dumps(ROW) + "\n")
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code != 0
    assert f'id you mean "{meant}"?' in f"{done.output} {done.exception}"

"""Every example configuration: what the router loads, ``config check`` accepts, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from pages import blocks

from semroute.cli.main import cli
from semroute.config import load_config
from semroute.config.load import template
from semroute.errors import SemrouteError
from semroute.learn.policy.families import AnswerPlan
from semroute.router import Router

SHAPE = """
index: .semroute/index
models:
  small: {price: {input: 0.15, output: 0.60}, context: 128000, capabilities: [tools, json_schema, logprobs]}
  large: {price: {input: 5.00, output: 15.00}, context: 128000, strengths: {reasoning: 0.9}}
  claude: {}
groups: {frontier: [large, claude]}
deployments:
  - {name: openai-small, model: small, format: openai, base_url: "https://api.openai.com/v1", api_key_env: OPENAI_KEY}
  - {name: claude, model: claude, format: anthropic, base_url: "https://api.anthropic.com", api_key_env: ANTHROPIC_KEY}
categories: {code: {models: [small, frontier], threshold: 0.42}}
fallback: {models: [frontier]}
strategies: [rules, semantic, classifier, judge]
rules: []
judge: {model: small, timeout_s: 3}
cascade: {tiers: [small, frontier], accept: {confidence: 0.85, format: true}}
selection: {weights: {cost: 1, latency: 1, availability: 1, capability: 1}}
state: memory
log: {url: "sqlite:///.semroute/log.db", text: full, keep_days: 90}
"""
POLICIES = {
    "a model": {"strategies": ["rules"], "rules": [], "fallback": {"models": ["small"]}, "cascade": False},
    "categories": {
        "strategies": ["semantic"],
        "categories": {"code": {"models": ["small"], "cascade": AnswerPlan(0).cascade(("small", "large"), "policy")}},
        "fallback": {"models": ["small", "large"]},
        "cascade": {"tiers": ["small", {"use": "large", "accept": {"format": False}}], "accept": {"confidence": 0.5}},
    },
}
EXAMPLES = {
    "template": template(),
    "shape": SHAPE,
    **blocks("yaml"),
    **{f"policy: {name}": yaml.safe_dump(policy) for name, policy in POLICIES.items()},
}
WRONG = {
    "an unknown strategy": "strategies: [guess]",
    "a group of no model": "models: {a: {}}\ngroups: {g: [b]}",
    "a bad address": "log: {url: mysql://x}",
    "a list": "[1]",
    "no YAML": "a: [",
    "twice": "index: a\nindex: b",
}


def check(path: Path | None) -> int:
    return CliRunner().invoke(cli, ["config", "check", *([] if path is None else [str(path)])]).exit_code


def refusal(path: Path) -> SemrouteError | None:
    try:
        Router.load(config=path)
    except SemrouteError as error:
        return error
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EXAMPLES, *WRONG])
@pytest.mark.parametrize("place", ["semroute.yaml", "policy/policy.yaml"])
def test_what_is_loaded_is_accepted_and_what_is_refused_is_refused(
    name: str, place: str, routing_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMROUTE_INDEX", str(routing_index))
    path = Path(place)
    path.parent.mkdir(exist_ok=True)
    path.write_text(EXAMPLES.get(name) or WRONG[name], encoding="utf-8")
    if name in EXAMPLES:
        load_config(path)
    error = refusal(path)
    assert name in WRONG or error is None or "semroute train" in str(error), "an example lacks at most a classifier"
    loads = error is None
    assert (check(path) == 0) == loads
    if place == "semroute.yaml":
        assert (check(None) == 0) == loads


def test_a_category_missing_from_the_shipped_ones_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEMROUTE_INDEX", raising=False)
    Path("semroute.yaml").write_text("categories: {cod: {models: [small]}}\n")
    done = CliRunner().invoke(cli, ["config", "check"])
    assert done.exit_code == 1
    assert 'did you mean "code"?' in " ".join(done.output.split())

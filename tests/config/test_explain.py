from __future__ import annotations

from pathlib import Path

import pytest

from semroute.config import load_config
from semroute.errors import ConfigError

SECRET = "sk-proj-a1b2c3d4e5f6"


def refusal(folder: Path, text: str) -> ConfigError:
    path = folder / "semroute.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return caught.value


def test_an_unknown_key_is_refused_with_file_line_key_and_the_nearest_known_one(tmp_path: Path) -> None:
    error = refusal(tmp_path, "index: x\n\nfallbak: {models: [a]}\n")
    assert (error.line, error.key) == (3, "fallbak")
    expected = f'{tmp_path / "semroute.yaml"}:3: fallbak: unknown key; did you mean "fallback"?'
    assert str(error) == expected


@pytest.mark.parametrize(
    ("text", "line", "key", "meant"),
    [
        ("models:\n  m: {contxt: 3}\n", 2, "models.m.contxt", "context"),
        ("models:\n  m:\n    price: {input: 1, output: 1, outputs: 2}\n", 3, "models.m.price.outputs", "output"),
        ("deployments:\n  - name: a\n    model: m\n    base_ulr: x\n", 4, "deployments.0.base_ulr", "base_url"),
        ("categories:\n  price:\n    treshold: 0.4\n", 3, "categories.price.treshold", "threshold"),
        ("fallback:\n  model: [a]\n", 2, "fallback.model", "models"),
        ("deployments:\n  - name: a\n    model: m\n    provder: openai\n", 4, "deployments.0.provder", "provider"),
        (
            "deployments:\n  - name: a\n    model: m\n    limits:\n      rmp: 5\n",
            5,
            "deployments.0.limits.rmp",
            "rpm",
        ),
        (
            "deployments:\n  - name: a\n    model: m\n    timeouts:\n      conect_s: 5\n",
            5,
            "deployments.0.timeouts.conect_s",
            "connect_s",
        ),
        (
            "deployments:\n  - name: a\n    model: m\n    price: {input: 1, output: 1, cached: 1}\n",
            4,
            "deployments.0.price.cached",
            "cached_input",
        ),
        ("selection:\n  wieghts: {cost: 1}\n", 2, "selection.wieghts", "weights"),
        ("selection:\n  weights:\n    costs: 1\n", 3, "selection.weights.costs", "cost"),
        ("retries: {dedline_s: 3}\n", 1, "retries.dedline_s", "deadline_s"),
        ("hedging:\n  enable: true\n", 2, "hedging.enable", "enabled"),
        ("breaker:\n  in_row: 3\n", 2, "breaker.in_row", "in_a_row"),
        ("budget: {A: 1}\n", 1, "budget", "budgets"),
    ],
)
def test_the_suggestion_comes_from_the_section_that_holds_the_key(
    tmp_path: Path, text: str, line: int, key: str, meant: str
) -> None:
    error = refusal(tmp_path, text)
    assert (error.line, error.key) == (line, key)
    assert f'did you mean "{meant}"?' in str(error)


def test_an_unrecognisable_key_gets_the_list_of_known_keys(tmp_path: Path) -> None:
    assert "known here: cascade, models, threshold" in str(refusal(tmp_path, "categories: {code: {zzz: 1}}\n"))


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("models:\n  m: {context: many}\n", 2, "models.m.context", "must be a whole number"),
        ("models: [a]\n", 1, "models", "must be a mapping"),
        ("models:\n  m: {price: {input: -1, output: 0}}\n", 2, "models.m.price.input", "must be at least 0"),
        ("models:\n  m: {price: {input: 1}}\n", 2, "models.m.price.output", "is missing"),
        ("models:\n  1: {}\n", 2, "models.1", "must be text; put it in quotes"),
        ("deployments: {a: 1}\n", 1, "deployments", "must be a list"),
        ("deployments:\n  - hello\n", 2, "deployments.0", "must be a mapping"),
        ("deployments:\n  - name: a\n", 2, "deployments.0.model", "is missing"),
        (
            "deployments:\n  - name: a\n    model: m\n    timeout_s: true\n",
            4,
            "deployments.0.timeout_s",
            "must be a number",
        ),
        ("deployments:\n  - name: a\n    model: m\n    timeout_s: 0\n", 4, "deployments.0.timeout_s", "greater than 0"),
        ("deployments:\n  - name: a\n    model: m\n    format: cohere\n", 4, "deployments.0.format", "'openai'"),
        ("deployments:\n  - name: ' a'\n    model: m\n", 2, "deployments.0.name", "without space around it"),
        ("categories:\n  a: {threshold: 1.2}\n", 2, "categories.a.threshold", "must be at most 1"),
        ("categories:\n  a: {threshold: -1.2}\n", 2, "categories.a.threshold", "must be at least -1"),
        ("categories:\n  a: {threshold: .nan}\n", 2, "categories.a.threshold", "finite number"),
        ("categories:\n  a: {threshold: '0.3'}\n", 2, "categories.a.threshold", "must be a number"),
        ("categories:\n  a: {models: []}\n", 2, "categories.a.models", "must not be empty"),
        ("categories:\n  a: {models: small}\n", 2, "categories.a.models", "must be a list"),
        ("fallback: {models: [a, '']}\n", 1, "fallback.models.1", "must not be blank"),
        ("index: ''\n", 1, "index", "must be the path of a folder"),
        ("index: [x]\n", 1, "index", "must be the path of a folder"),
        ("- a\n", 1, None, "must be a mapping of keys to values"),
        ("groups: {g: m}\n", 1, "groups.g", "must be a list"),
        ("groups:\n  g: []\n", 2, "groups.g", "must not be empty"),
        ("selection: {weights: {cost: -1}}\n", 1, "selection.weights.cost", "must be at least 0"),
        (
            "selection:\n  weights: {cost: 0, latency: 0, availability: 0, capability: 0}\n",
            2,
            "selection.weights",
            "all weights are 0; set at least one weight above 0",
        ),
        ("selection:\n  exploration: 1.5\n", 2, "selection.exploration", "must be at most 1"),
        ("retries:\n  attempts: 0\n", 2, "retries.attempts", "must be greater than 0"),
        ("retries:\n  same_place: -1\n", 2, "retries.same_place", "must be at least 0"),
        ("retries: {budget: 20}\n", 1, "retries.budget", "must be at most 1"),
        ("retries: {deadline_s: .inf}\n", 1, "retries.deadline_s", "finite number"),
        ("hedging: {enabled: 1}\n", 1, "hedging.enabled", "must be true or false"),
        ("hedging: {quantile: 1}\n", 1, "hedging.quantile", "must be less than 1"),
        ("breaker:\n  failure_share: 0\n", 2, "breaker.failure_share", "must be greater than 0"),
        ("breaker:\n  probes: 1.5\n", 2, "breaker.probes", "must be a whole number"),
        ("breaker:\n  jitter: 1\n", 2, "breaker.jitter", "must be less than 1"),
        (
            "deployments:\n  - {name: a, model: m, api_key_env: A_KEY}\nbudgets:\n  A_KEY: much\n",
            4,
            "budgets.A_KEY",
            "must be a number",
        ),
        (
            "deployments:\n  - {name: a, model: m, api_key_env: A_KEY}\nbudgets:\n  A_KEY: -3\n",
            4,
            "budgets.A_KEY",
            "must be at least 0",
        ),
        ("state: 5\n", 1, "state", "must be text"),
        ("state: disk\n", 1, "state", 'write "memory"'),
        ("state: http://host\n", 1, "state", "neither memory nor a redis:// address"),
        ("state: redis://\n", 1, "state", "neither memory nor a redis:// address"),
        ("state: redis://host:port\n", 1, "state", "is not an address"),
        ("state: redis://host/name\n", 1, "state", "the number of the database"),
        ("state_password_env: secret\n", 1, "state_password_env", "name of an environment variable"),
        (
            "deployments:\n  - name: a\n    model: m\n    limits: {rpm: 0}\n",
            4,
            "deployments.0.limits.rpm",
            "greater than 0",
        ),
        (
            "deployments:\n  - name: a\n    model: m\n    timeouts: {idle_s: 0}\n",
            4,
            "deployments.0.timeouts.idle_s",
            "greater than 0",
        ),
        (
            "deployments:\n  - name: a\n    model: m\n    price: {input: 1, output: 1, cached_input: -1}\n",
            4,
            "deployments.0.price.cached_input",
            "must be at least 0",
        ),
        (
            "deployments:\n  - name: a\n    model: m\n    api_key_env: key\n",
            4,
            "deployments.0.api_key_env",
            "name of an environment variable",
        ),
        (
            "deployments:\n  - name: a\n    model: m\n    api_key_env:\n      - A_KEY\n      - key\n",
            6,
            "deployments.0.api_key_env.1",
            "name of an environment variable",
        ),
        (
            "deployments:\n  - name: a\n    model: m\n    api_key_env: {A_KEY: 1}\n",
            4,
            "deployments.0.api_key_env",
            "or a list of names",
        ),
    ],
)
def test_a_wrong_value_is_named_with_line_and_key(
    tmp_path: Path, text: str, line: int, key: str | None, says: str
) -> None:
    error = refusal(tmp_path, text)
    assert (error.line, error.key) == (line, key)
    assert says in str(error)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/v1", "api.openai.com/v1", "https://", "http://[::1/v1", "http://host:port/v1", "http://a b/v1", "''"],
)
def test_a_base_url_must_be_an_http_address(tmp_path: Path, url: str) -> None:
    error = refusal(tmp_path, f"deployments:\n  - name: a\n    model: m\n    base_url: {url}\n")
    assert (error.line, error.key) == (4, "deployments.0.base_url")
    assert "https://api.openai.com/v1" in str(error)


@pytest.mark.parametrize(
    "line",
    [
        f"api_key: {SECRET}",
        f"api_key_env: {SECRET}",
        f"api_key_env: [{SECRET}]",
        f"base_url: https://user:{SECRET}@host/v1",
        f"base_url: https://host/v1?key={SECRET}",
        f"base_url: https://host:{SECRET}/v1",
        f"timeout_s: {SECRET}",
        f"format: {SECRET}",
        f"provider: {SECRET}",
        f"api_key_env: [A_KEY, {SECRET}, {SECRET}]",
        f"region: [{SECRET}]",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, line: str) -> None:
    error = refusal(tmp_path, f"deployments:\n  - name: a\n    model: m\n    {line}\n")
    assert error.line == 4
    assert SECRET not in str(error)
    assert SECRET not in repr(error)


@pytest.mark.parametrize(
    "line",
    [
        f"budgets: {{{SECRET}: 5}}",
        f"state: redis://:{SECRET}@host",
        f"state: redis://host?password={SECRET}",
        f"state: {SECRET}",
        f"state_password_env: {SECRET}",
    ],
)
def test_a_key_outside_the_deployments_is_not_shown(tmp_path: Path, line: str) -> None:
    error = refusal(tmp_path, f"index: x\n{line}\n")
    assert error.line == 2
    assert SECRET not in str(error)
    assert SECRET not in repr(error)
    assert error.key is not None
    assert SECRET not in error.key

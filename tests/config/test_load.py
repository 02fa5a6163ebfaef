from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Config, Hedging, Limits, Price, Selection, Timeouts, Weights, load_config
from semroute.config.load import validate
from semroute.errors import ConfigError


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "semroute.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(folder: Path, text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text))
    return caught.value


def lines_of(error: ConfigError) -> list[str]:
    return str(error).splitlines()


@pytest.mark.parametrize("text", ["", "\n# only a comment\n", "---\n", "index:\nmodels:\ndeployments:\nfallback:\n"])
def test_a_file_without_values_gives_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, text)) == Config()


def test_without_a_path_the_file_in_the_working_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config() == Config()
    write(tmp_path, "index: elsewhere\n")
    assert load_config().index == Path("elsewhere")


def test_every_key_is_read(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            """
index: out/index
models:
  small: {price: {input: 0.15, output: 0.6}, context: 128000, capabilities: [tools], strengths: {reasoning: 0.9}}
  large:
deployments:
  - {name: a, model: small, format: openai, base_url: "http://localhost:8000/v1/", upstream_model: q, timeout_s: 5}
  - {name: b, model: small, api_key_env: OPENAI_API_KEY}
  - name: c
    model: large
    provider: azure
    base_url: https://mine.openai.azure.com/openai/deployments/x
    api_key_env: [FIRST_KEY, SECOND_KEY]
    api_version: "2026-01-01"
    region: eu
    price: {input: 1, output: 2, cached_input: 0.1, cache_write: 1.25}
    limits: {rpm: 500, tpm: 200000, parallel: 50}
    timeouts: {connect_s: 1, first_token_s: 2.5, idle_s: 3}
groups: {either: [small, large]}
selection: {weights: {cost: 2, latency: 0}, sharpness: 0, exploration: 0.1}
retries: {deadline_s: 30, attempts: 3, same_place: 0, budget: 0.5, backoff_s: 0.1, most_backoff_s: 1}
hedging: {enabled: true, quantile: 0.9, most: 0.05}
breaker: {window_s: 10, failure_share: 0.2, least_calls: 5, in_a_row: 2, open_s: 1, most_open_s: 9, jitter: 0,
          probes: 1, probe_lease_s: 5, successes: 1, ramp_s: 0}
budgets: {OPENAI_API_KEY: 50, FIRST_KEY: 0}
state: rediss://user@host:6380/1
state_password_env: REDIS_PASSWORD
categories:
  code: {models: [small, large], threshold: 0.0}
fallback: {models: [large, small]}
""",
        )
    )
    small = config.models["small"]
    assert small.price is not None
    assert (small.price.input, small.price.output, small.context) == (0.15, 0.6, 128000)
    assert (small.capabilities, dict(small.strengths)) == (("tools",), {"reasoning": 0.9})
    assert config.models["large"].price is None
    first, second = config.deployments_of("small")
    assert (first.base_url, first.upstream, first.timeout_s) == ("http://localhost:8000/v1", "q", 5.0)
    assert (second.base_url, second.upstream, second.timeout_s) == ("https://api.openai.com/v1", "small", 60.0)
    (third,) = config.deployments_of("large")
    assert (first.api_key_env, third.api_key_env) == ((), ("FIRST_KEY", "SECOND_KEY"))
    assert (third.format, third.api_version, third.region, third.vendor.key_header) == (
        "openai",
        "2026-01-01",
        "eu",
        "api-key",
    )
    assert third.price == Price(input=1, output=2, cached_input=0.1, cache_write=1.25)
    assert third.limits == Limits(rpm=500, tpm=200000, parallel=50)
    assert third.timeouts == Timeouts(connect_s=1, first_token_s=2.5, idle_s=3)
    assert config.members("either") == ("small", "large")
    assert config.selection == Selection(weights=Weights(cost=2, latency=0), sharpness=0, exploration=0.1)
    assert (config.retries.deadline_s, config.retries.same_place, config.retries.most_backoff_s) == (30, 0, 1)
    assert config.hedging == Hedging(enabled=True, quantile=0.9, most=0.05)
    assert (config.breaker.least_calls, config.breaker.jitter, config.breaker.ramp_s) == (5, 0, 0)
    assert dict(config.budgets) == {"OPENAI_API_KEY": 50, "FIRST_KEY": 0}
    assert (config.state, config.state_password_env) == ("rediss://user@host:6380/1", "REDIS_PASSWORD")
    assert config.categories["code"].models == ("small", "large")
    assert config.fallback.models == ("large", "small")


def test_a_threshold_of_zero_is_a_value_and_not_unset(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "categories:\n  a: {threshold: 0.0}\n  b: {models: [x]}\n"))
    assert config.categories["a"].threshold == 0.0
    assert config.categories["b"].threshold is None


def test_two_deployments_of_one_name_are_refused_at_the_second(tmp_path: Path) -> None:
    error = refusal(
        tmp_path, "deployments:\n  - {name: a, model: m}\n  - {name: b, model: m}\n  - {name: a, model: m}\n"
    )
    assert (error.line, error.key) == (4, "deployments.2.name")
    assert '"a" is already the name of deployments.0' in str(error)


def test_a_deployment_of_a_model_that_models_does_not_list_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "models: {small: {}}\ndeployments:\n  - {name: a, model: smal}\n")
    assert (error.line, error.key) == (3, "deployments.0.model")
    assert 'did you mean "small"?' in str(error)


def test_without_a_list_of_models_a_deployment_may_name_any(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "deployments:\n  - {name: a, model: any}\n")).deployments_of("any")


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    error = refusal(
        tmp_path,
        "indx: a\nmodels: {small: {}}\ndeployments:\n  - {name: a, model: smal}\n  - {name: a, model: small}\n"
        "categories:\n  code: {threshold: 3}\nindx: b\n",
    )
    path = tmp_path / "semroute.yaml"
    assert [line.removeprefix(f"{path}:").split(":")[0] for line in lines_of(error)] == ["1", "4", "5", "7", "8"]
    assert all(line.startswith(f"{path}:") for line in lines_of(error))


def test_a_key_written_twice_is_refused_and_both_lines_are_named(tmp_path: Path) -> None:
    error = refusal(tmp_path, "models:\n  a: {}\n  b: {}\n  a: {context: 3}\n")
    assert (error.line, error.key) == (4, "models.a")
    assert "written twice, first in line 2" in str(error)


def test_a_merge_key_is_no_duplicate_of_what_it_overrides(tmp_path: Path) -> None:
    text = "models:\n  a: &a {context: 3, capabilities: [x]}\n  b: {<<: *a, context: 4}\n"
    config = load_config(write(tmp_path, text))
    assert (config.models["b"].context, config.models["b"].capabilities) == (4, ("x",))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("index: [a\nfallback: x\n", 2),
        ("index: a\n\tmodels: b\n", 2),
        ("index: a\nfallback: *nowhere\n", 2),
        ("index: a\nmodels: !!python/object:os.system {}\n", 2),
        ("index: a\nmodels: {a: 2024-99-99}\n", 2),
        ("index: a\nmodels: {a: " + "9" * 5000 + "}\n", 2),
        ("index: a\n--- \nindex: b\n", 2),
        ("index: a\n? [x]\n: b\n", 2),
        ("index: a\nmodels: \x07\n", 2),
    ],
)
def test_malformed_yaml_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    error = refusal(tmp_path, text)
    assert error.line == line
    assert str(error).startswith(f"{tmp_path / 'semroute.yaml'}:{line}: ")


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in str(refusal(tmp_path, "index: " + "[" * 5000))


def test_an_alias_that_holds_itself_is_refused_and_does_not_loop(tmp_path: Path) -> None:
    error = refusal(tmp_path, "models: &m\n  a: *m\n")
    assert error.line == 2
    assert "an alias is inside of its own anchor" in str(error)


def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"index: a\nfallback: \xff\n")
    assert error.line == 2
    assert "UTF-8" in str(error)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, b"\xef\xbb\xbfindex: x\n")).index == tmp_path / "x"


def test_a_missing_file_names_init_and_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="semroute init"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "index: x\n")
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)


TEXT = st.text(st.sampled_from("ab:-[]{}#&*!|>'\"\n\t ,0.~<=%@`\\\x00\ud800é"), max_size=60)


@pytest.mark.slow
@given(TEXT)
def test_any_text_gives_a_configuration_or_problems_with_words(text: str) -> None:
    config, problems = validate(text)
    assert (config is None) == bool(problems)
    assert all(problem.message and "\n" not in problem.text for problem in problems)


KEYS = st.sampled_from(
    [
        "index",
        "models",
        "deployments",
        "categories",
        "fallback",
        "name",
        "model",
        "price",
        "input",
        "context",
        "threshold",
        "base_url",
        "provider",
        "format",
        "api_key_env",
        "limits",
        "timeouts",
        "groups",
        "budgets",
        "selection",
        "weights",
        "retries",
        "hedging",
        "breaker",
        "state",
        "openai",
        "A_KEY",
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.dictionaries(KEYS, PLAIN, max_size=4))
def test_any_values_under_known_keys_give_a_configuration_or_located_problems(data: dict[str, object]) -> None:
    config, problems = validate(yaml.safe_dump(data, allow_unicode=True))
    assert (config is None) == bool(problems)
    assert all(problem.line is not None for problem in problems)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("models:\n  m: " + "[" * 30_000, 2, "nested too deeply"),
        ("a: &a0 [x]\n" + "".join(f"k{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)), 15, "expanded"),
        (
            "%YAML 1.5\n---\na: &a0 [x]\n" + "".join(f"k{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
            17,
            "expanded",
        ),
        ("index: x\nretries: 1" + ":1" * 200_000, 2, "not the number or date that it looks like"),
        ('models: {}\nindex: "\\U0011FFFF"', 2, "an escape beyond Unicode"),
        ('models: {}\nindex: "\\UFFFFFFFF"', 2, "an escape beyond Unicode"),
    ],
)
def test_hostile_yaml_is_refused_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    error = refusal(tmp_path, text)
    assert error.line == line
    assert str(error).startswith(f"{tmp_path / 'semroute.yaml'}:{line}: ")
    assert message in str(error)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "semroute.yaml"
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="is larger than 1 MiB; name a configuration"):
        load_config(path)


@pytest.mark.slow
def test_a_file_with_many_problems_lists_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    listed = lines_of(refusal(tmp_path, "".join(f"key{n}: 1\n" for n in range(5000))))
    assert len(listed) == 201
    assert listed[-1].endswith("4,800 more problems; correct these first")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("strategies: [rules, semntic]\n", 'did you mean "semantic"?'),
        ("strategies: [Semantic]\n", 'did you mean "semantic"?'),
        ("semantic: {mode: decid}\n", 'did you mean "decide"?'),
    ],
)
def test_a_misspelt_choice_gets_a_suggestion(tmp_path: Path, text: str, fix: str) -> None:
    path = tmp_path / "semroute.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert fix in str(caught.value)


def test_an_unrecognisable_word_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "semroute.yaml"
    path.write_text("strategies: [sk-secret-key-1234]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "secret" not in str(caught.value)

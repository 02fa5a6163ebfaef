from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Config, load_config
from semroute.config.load import validate
from semroute.errors import ConfigError

SECRET = "sk-proj-a1b2c3d4e5f6"


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
    assert config.categories["code"].models == ("small", "large")
    assert config.fallback.models == ("large", "small")


def test_a_threshold_of_zero_is_a_value_and_not_unset(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "categories:\n  a: {threshold: 0.0}\n  b: {models: [x]}\n"))
    assert config.categories["a"].threshold == 0.0
    assert config.categories["b"].threshold is None


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
    ],
)
def test_the_suggestion_comes_from_the_section_that_holds_the_key(
    tmp_path: Path, text: str, line: int, key: str, meant: str
) -> None:
    error = refusal(tmp_path, text)
    assert (error.line, error.key) == (line, key)
    assert f'did you mean "{meant}"?' in str(error)


def test_a_key_like_no_other_gets_the_list_of_known_ones(tmp_path: Path) -> None:
    assert "known here: models, threshold" in str(refusal(tmp_path, "categories: {code: {zzz: 1}}\n"))


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
        ("deployments:\n  - name: a\n    model: m\n    format: gemini\n", 4, "deployments.0.format", "'openai'"),
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
    assert refusal(tmp_path, "models: &m\n  a: *m\n").key == "models.a.a"


def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"index: a\nfallback: \xff\n")
    assert error.line == 2
    assert "UTF-8" in str(error)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, b"\xef\xbb\xbfindex: x\n")).index == Path("x")


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
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, line: str) -> None:
    error = refusal(tmp_path, f"deployments:\n  - name: a\n    model: m\n    {line}\n")
    assert error.line == 4
    assert SECRET not in str(error)
    assert SECRET not in repr(error)


TEXT = st.text(st.sampled_from("ab:-[]{}#&*!|>'\"\n\t ,0.~<=%@`\\\x00\ud800é"), max_size=60)


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
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, PLAIN, max_size=4))
def test_any_values_under_known_keys_give_a_configuration_or_located_problems(data: dict[str, object]) -> None:
    config, problems = validate(yaml.safe_dump(data, allow_unicode=True))
    assert (config is None) == bool(problems)
    assert all(problem.line is not None for problem in problems)

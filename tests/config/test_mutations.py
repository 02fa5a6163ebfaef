"""Valid configurations, changed at every key: whatever is refused is refused in the words of the file."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Config
from semroute.config.load import overlaid, problems_of, template, validate
from semroute.config.yaml_lines import Document
from semroute.errors import ConfigError

WHOLE = """
index: .semroute/index
encoder: {kind: remote, model: m, base_url: "https://host/v1", api_key_env: A_KEY}
models:
  small: {price: {input: 1, output: 2, cached_input: 0, cache_write: 1}, context: 10, capabilities: [tools]}
  large: {strengths: {reasoning: 0.5}, description: good}
groups: {both: [small, large]}
deployments:
  - {name: a, model: small, provider: openai, upstream_model: x, api_key_env: [A_KEY], region: eu, timeout_s: 5,
     limits: {rpm: 1, tpm: 2, parallel: 3}, timeouts: {connect_s: 1, first_token_s: 1, idle_s: 1, keepalive_s: 2}}
  - {name: b, model: large, format: anthropic, base_url: "https://host", api_key_env: B_KEY, api_version: v,
     price: {input: 1, output: 1}, carries: [top_k], lacks: [seed], message_fields: [refusal]}
categories: {code: {models: [small], threshold: 0.1, wants: [reasoning], cascade: {tiers: [small, large]}}}
fallback: {models: [large]}
strategies: [rules, semantic, classifier, judge]
rules:
  - {name: r, when: {chars: {min: 1, max: 2}, tokens: {min: 1}, turns: {max: 3}, keywords: {any: [a], all: [b]}},
     use: [small]}
  - {name: s, when: {code: true, language: [en], attachments: image, tools: [t], json_schema: false,
     metadata: {plan: [free]}, any: [{regex: x}], all: [{keywords: [y]}], not: {code: false}}, category: code}
  - {name: t, when: {tool_loop: {min: 3}, stalled: true, plan_mode: false}, only: [small]}
  - {name: u, except: [small]}
semantic: {mode: narrow}
classifier: {folder: dir, value: 0.1, candidates: [small]}
judge: {model: small, timeout_s: 1, candidates: [small, large], max_usd: 1, max_chars: 200, cache: 1, cache_ttl_s: 1}
cascade:
  tiers: [small, {use: large, effort: low, accept: {format: false}, quality: 0.9}]
  accept: {format: {empty: true, length: true, refusal: true, schema: true, fence: true, language: same, pattern: x},
           confidence: 0.5, quality: {classifier: dir, threshold: 0.5}, consistency: 0.5, without_logprobs: accept,
           agreement: [small, large], agreement_at_once: true, sample_temperature: 0.5}
  start: decided
  stream_after_tokens: 5
  value_per_quality: 1
  max_usd: 1
selection: {weights: {cost: 1, latency: 1, availability: 1, capability: 1}, sharpness: 1, exploration: 0.1}
retries: {deadline_s: 30, attempts: 3, same_place: 0, budget: 0.5, backoff_s: 0.1, most_backoff_s: 1}
hedging: {enabled: true, quantile: 0.9, most: 0.05}
breaker: {window_s: 10, failure_share: 0.2, least_calls: 5, in_a_row: 2, open_s: 1, most_open_s: 9, jitter: 0,
          probes: 1, probe_lease_s: 5, successes: 1, ramp_s: 0, panic_per_s: 1, suspend_s: 1, most_suspend_s: 2,
          disabled_probe_s: 1, most_hint_s: 1, most_failure_hint_s: 1}
budgets: {A_KEY: 5}
baseline: large
on_stall: ignore
log: {enabled: true, url: "sqlite:///log.db", password_env: PW, text: hashed, answers: full, keep_days: forever,
      spool: spool}
trial: {policy: policy.yaml, share: 0.1, state: state.json, judge: large, max_usd: 5, compare: 0.5}
policies: {thrifty: thrifty.yaml}
state: memory
state_password_env: PW
state_timeout_s: 1
"""
VALUES: list[Any] = [
    None, True, 7, -3, 1.5, float("inf"), float("nan"), 10**40, "", " ", "word", "7", "a\nb", [], ["x"], [None], [[]],
    [{"odd": 1}], {}, {"odd": {"deep": []}}, {"7": 1},
]  # fmt: skip
SPEAK = re.compile(
    r"[Ii]nput should|Extra inputs|permitted|pydantic|literal\[|function-|union|tagged|constrained|is-instance|"
    r"NoneType|\[key\]|ValidationError|validator|dict_type|_error|Config\b|Field required|Decimal|str\[|float\[|model_"
)


NEEDS = {"groups": ("models",), "budgets": ("deployments",), "deployments": ("models",)}
"""What else must stand in a file for a section to be valid."""


def around(path: tuple[Any, ...]) -> dict[str, Any]:
    """Return a file with the section of a path and what that needs: a small one is read in no time."""
    data = yaml.safe_load(WHOLE)
    return {name: data[name] for name in dict.fromkeys((path[0], *NEEDS.get(path[0], ())))} if path else data


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Walk all keys and items."""
    found = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in found:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Replace what stands at a path."""
    made = copy.deepcopy(data)
    inner = made
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return made


def assert_said_well(data: dict[Any, Any]) -> None:
    """Whatever is wrong has a line, a key and a fix, and no word of the library behind."""
    lines = {tuple(map(as_written, path)): number for number, path in enumerate(places(data), 1)}
    config, problems = problems_of(data, Document(data, lines), None)
    assert (config is None) == bool(problems)
    for problem in problems:
        said = f"{problem.key}: {problem.text}"
        assert not SPEAK.search(said), said
        assert problem.line is not None, said
        assert problem.key, said
        assert problem.fix, said


def as_written(key: Any) -> str:
    """Return a key as YAML writes it."""
    return str(key).lower() if isinstance(key, bool) else str(key)


def test_the_configuration_that_is_changed_is_valid_and_holds_every_key() -> None:
    config, problems = validate(WHOLE)
    assert config is not None, problems
    assert config.model_fields_set == Config.model_fields.keys()


@pytest.mark.parametrize("path", list(places(yaml.safe_load(WHOLE))), ids=lambda path: ".".join(map(str, path)))
def test_a_wrong_value_at_any_key_is_explained_as_in_the_file(path: tuple[Any, ...]) -> None:
    data = around(path)
    for value in VALUES:
        assert_said_well(changed(data, path, value))


def inner(data: Any) -> list[tuple[Any, ...]]:
    """Find the mappings."""

    def at(path: tuple[Any, ...]) -> Any:
        found = data
        for part in path:
            found = found[part]
        return found

    return [(), *(path for path in places(data) if isinstance(at(path), dict))]


@pytest.mark.slow
@pytest.mark.parametrize("path", inner(yaml.safe_load(WHOLE)), ids=lambda path: ".".join(map(str, path)) or "top")
@pytest.mark.parametrize("key", ["unheard_of", "modles", 7, True, "", "a.b"])
def test_an_unknown_key_is_named_as_in_the_file(path: tuple[Any, ...], key: Any) -> None:
    assert_said_well(changed(around(path), (*path, key), {"x": 1}))


@pytest.mark.slow
@pytest.mark.parametrize("path", list(places(yaml.safe_load(WHOLE))), ids=lambda path: ".".join(map(str, path)))
def test_a_missing_key_is_named_as_in_the_file(path: tuple[Any, ...]) -> None:
    data = around(path)
    found = data
    for part in path[:-1]:
        found = found[part]
    del found[path[-1]]
    assert_said_well(data)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inside, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.slow
@given(path=st.sampled_from(list(places(yaml.safe_load(WHOLE)))), value=ANYTHING)
def test_any_value_at_a_key_is_explained_as_in_the_file(path: tuple[Any, ...], value: Any) -> None:
    assert_said_well(changed(around(path), path, value))


@pytest.mark.parametrize(
    "text",
    ["strategies: [guess]", "log: {keep_days: [1]}", "cascade: {accept: 3}", "groups: {small: [large]}", "odd: 1"],
)
def test_problems_of_an_overlaid_policy_have_the_same_messages(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    base, _ = validate(template())
    assert base is not None
    with pytest.raises(ConfigError) as refused:
        overlaid(base, path)
    assert not SPEAK.search(str(refused.value).removeprefix(str(path)))
    assert refused.value.line == 1
    assert refused.value.key is not None
    assert refused.value.key.split(".")[0] == text.split(":", maxsplit=1)[0]
    assert ";" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("7: {x: 1}", 1, "7: must be text; put the key in quotes"),
        ("true: {x: 1}", 1, "true: must be text; put the key in quotes"),
        ("log:\n  keep_days: [1]", 2, 'must be a number of days greater than 0, or "forever"; write it like 90'),
        ("log:\n  keep_days: 0", 2, 'must be a number of days greater than 0, or "forever"; write it like 90'),
        ("strategies:\n  - semantik", 2, 'did you mean "semantic"?'),
        ("cascade:\n  start: chepest", 2, 'did you mean "cheapest"?'),
        ("models:\n  m: {strengths: [1]}", 2, "models.m.strengths: must be a mapping of keys to values"),
    ],
)
def test_the_line_of_the_file_is_named(text: str, line: int, said: str) -> None:
    _, (problem, *_) = validate(text)
    assert problem.line == line
    assert said in f"{problem.key}: {problem.text}"


@pytest.mark.parametrize("text", ["api_version: [x]", "region: {a: 1}", "upstream_model: [a, b]"])
def test_quotes_are_not_advised_for_a_list_or_mapping(text: str) -> None:
    _, (problem, *_) = validate(f"deployments: [{{name: a, model: m, {text}}}]\n")
    assert "quotes" not in problem.fix
    assert "and not a" in problem.message
    assert json.dumps(problem.fix) == '"write one value"'

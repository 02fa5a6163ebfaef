from __future__ import annotations

from typing import Any

import pytest

from semroute.catalog.capabilities import check_catalog
from semroute.config import CategoryOverride, Config, Deployment, Fallback, ModelSpec, Problem
from semroute.config.check import check_config


def deployment(name: str, model: str, key: str | None = None) -> Deployment:
    return Deployment(name=name, model=model, api_key_env=() if key is None else tuple(key.split()))


LARGE = deployment("a", "large")


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_a_complete_configuration_has_no_problems() -> None:
    config = Config(deployments=(LARGE, deployment("b", "coder", "KEY")))
    assert check_config(config, category_models={"code": ["coder", "large"]}, env={"KEY": "x"}) == []


def test_a_fallback_without_any_deployment_is_an_error_that_names_the_model() -> None:
    problem = only(check_config(Config(), category_models=None, env={}))
    assert (problem.severity, problem.key) == ("error", "deployments")
    assert '"large"' in problem.message
    assert "the fallback cannot be answered" in problem.message


def test_a_model_that_another_of_the_category_can_replace_is_a_warning() -> None:
    config = Config(deployments=(LARGE,))
    problem = only(check_config(config, category_models={"code": ["coder", "large"]}, env={}))
    assert problem.severity == "warning"
    assert 'category "code" will go without it' in problem.message


def test_a_category_none_of_whose_models_can_be_called_is_an_error() -> None:
    config = Config(deployments=(LARGE,))
    problem = only(check_config(config, category_models={"small_talk": ["small"]}, env={}))
    assert problem.severity == "error"
    assert 'category "small_talk" cannot be answered' in problem.message


def test_overrides_of_a_category_take_precedence_over_the_index() -> None:
    config = Config(deployments=(LARGE,), categories={"code": CategoryOverride(models=("large",))})
    assert check_config(config, category_models={"code": ["coder"]}, env={}) == []


def test_an_override_of_the_threshold_alone_leaves_the_models_of_the_index() -> None:
    config = Config(deployments=(LARGE,), categories={"code": CategoryOverride(threshold=0.0)})
    assert '"coder"' in only(check_config(config, category_models={"code": ["coder"]}, env={})).message


def test_an_unknown_category_is_an_error_with_the_nearest_name() -> None:
    config = Config(deployments=(LARGE,), categories={"cod": CategoryOverride(threshold=0.4)})
    problem = only(check_config(config, category_models={"code": ["large"]}, env={}))
    assert (problem.severity, problem.key, problem.fix) == ("error", "categories.cod", 'did you mean "code"?')


def test_without_an_index_no_category_is_called_unknown_and_no_deployment_unused() -> None:
    config = Config(
        deployments=(LARGE, deployment("b", "coder")), categories={"cod": CategoryOverride(models=("large",))}
    )
    assert check_config(config, category_models=None, env={}) == []


def test_an_unset_key_is_one_warning_for_all_its_deployments() -> None:
    config = Config(deployments=(deployment("a", "large", "KEY"), deployment("b", "large", "KEY")))
    for env in ({}, {"KEY": "  "}):
        problem = only(check_config(config, category_models=None, env=env))
        assert (problem.severity, problem.key) == ("warning", "deployments.0.api_key_env")
        assert '"a" and "b"' in problem.message
        assert problem.fix == "export KEY"


def test_a_key_that_is_set_is_never_shown() -> None:
    config = Config(deployments=(deployment("a", "lrage", "KEY"),))
    assert "sk-secret" not in repr(check_config(config, category_models={}, env={"KEY": "sk-secret"}))


def test_a_deployment_whose_model_nobody_uses_is_a_warning_with_the_nearest_name() -> None:
    config = Config(deployments=(LARGE, deployment("b", "codr")))
    problems = check_config(config, category_models={"code": ["coder", "large"]}, env={})
    unused = next(problem for problem in problems if problem.key == "deployments.1.model")
    assert (unused.severity, unused.fix) == ("warning", 'did you mean "coder"?')


def test_a_key_of_several_that_is_not_set_leaves_the_others() -> None:
    config = Config(deployments=(deployment("a", "large", "FIRST SECOND"), deployment("b", "large", "SECOND")))
    problem = only(check_config(config, category_models=None, env={"SECOND": "x"}))
    assert problem.key == "deployments.0.api_key_env"
    assert problem.message == 'FIRST is not set, and "a" will use the other keys alone'
    first, second = check_config(config, category_models=None, env={})
    assert '"a" cannot be called without' in first.message
    assert '"a" and "b" cannot be called without' in second.message


def test_the_password_of_the_shared_state_that_is_not_set_is_a_warning() -> None:
    config = Config(deployments=(LARGE,), state="redis://localhost", state_password_env="REDIS_PASSWORD")
    problem = only(check_config(config, category_models=None, env={}))
    assert (problem.severity, problem.key) == ("warning", "state_password_env")
    assert "REDIS_PASSWORD" in problem.message
    assert check_config(config, category_models=None, env={"REDIS_PASSWORD": "x"}) == []


GROUPED = Config(
    models={"large": ModelSpec(), "m": ModelSpec(), "n": ModelSpec()},
    groups={"both": ("m", "n")},
    deployments=(LARGE, deployment("b", "n")),
)


def test_a_category_that_names_a_group_is_served_by_the_members_deployments() -> None:
    problem = only(check_config(GROUPED, category_models={"code": ["both"]}, env={}))
    assert problem.severity == "warning"
    assert problem.message == 'no deployment of model "m": category "code" will go without it'


def test_a_category_whose_group_has_no_callable_member_is_an_error() -> None:
    config = Config(models=GROUPED.models, groups=GROUPED.groups, deployments=(LARGE,))
    problems = check_config(config, category_models={"code": ["both"]}, env={})
    assert [problem.severity for problem in problems] == ["error", "error"]
    assert all('category "code" cannot be answered' in problem.message for problem in problems)


def test_a_misspelt_group_gets_the_nearest_name() -> None:
    problems = check_config(GROUPED, category_models={"code": ["boht", "m", "n"]}, env={})
    assert 'did you mean "both"?' in {problem.fix for problem in problems}


def test_errors_come_before_warnings() -> None:
    config = Config(deployments=(deployment("a", "x", "KEY"),), fallback=Fallback(models=("y",)))
    assert [p.severity for p in check_config(config, category_models={}, env={})] == ["error", "warning", "warning"]


def test_a_cascade_whose_tier_nobody_serves_is_an_error() -> None:
    config = Config.model_validate(
        {"deployments": [LARGE.model_dump()], "cascade": {"tiers": ["smal", "large"]}, "models": {}}
    )
    problems = check_config(config, category_models=None, env={})
    assert [(problem.severity, problem.key) for problem in problems] == [("error", "deployments")]
    assert "tier 1 of 2 of cascade cannot be answered" in problems[0].message


BOTH = [LARGE.model_dump(), deployment("b", "small").model_dump(), deployment("c", "coder").model_dump()]


@pytest.mark.parametrize(
    ("index", "sections", "words"),
    [
        ({"legal": ["large"]}, {}, ['category "legal": of the tiers only "large"']),
        ({"legal": []}, {"fallback": {"models": ["large"]}}, ['category "legal", the fallback: of the tiers only']),
        ({"legal": []}, {"fallback": {}}, []),
        ({"legal": ["coder"]}, {}, ['category "legal": no tier is among its models']),
        ({"legal": ["large"]}, {"categories": {"legal": {"models": ["small", "large"]}}}, []),
        ({"legal": ["small", "large"]}, {"categories": {"legal": {"models": ["large"]}}}, ['only "large"']),
        ({"legal": ["large"]}, {"categories": {"legal": {"cascade": False}}}, []),
        ({"legal": ["large"]}, {"categories": {"legal": {"cascade": {"tiers": ["small", "large"]}}}}, []),
        ({"legal": ["both", "small"]}, {"groups": {"both": ["large", "coder"]}}, ['"coder" is no tier']),
        ({"legal": ["both"]}, {"groups": {"both": ["large", "small"]}}, []),
        ({"a": ["large"], "b": ["large"]}, {}, ['category "a", category "b": of the tiers only "large"']),
        ({"legal": ["large"]}, {"strategies": ["rules"]}, []),
        (None, {"fallback": {"models": ["small"]}}, []),
        ({"a": ["small", "large"]}, {"fallback": {"models": ["small"]}}, ['the fallback: of the tiers only "small"']),
        ({}, {"fallback": {"models": ["small"]}}, []),
        ({"a": ["x"]}, {"fallback": {"models": ["small"]}, "categories": {"a": {"cascade": False}}}, []),
    ],
)
def test_a_category_whose_models_cut_tiers_off_the_cascade_is_a_warning(
    index: dict[str, list[str]] | None, sections: dict[str, Any], words: list[str]
) -> None:
    basis = {"deployments": BOTH, "cascade": {"tiers": ["small", "large"]}, "fallback": {"models": ["small", "large"]}}
    problems = check_config(Config.model_validate({**basis, **sections}), category_models=index, env={})
    found = [problem for problem in problems if problem.key == "cascade.tiers"]
    assert [problem.severity for problem in found] == ["warning"] * len(words)
    assert all(said in problem.message for said, problem in zip(words, found, strict=True))


def test_cascades_that_cannot_escalate_are_warned_about() -> None:
    config = Config.model_validate(
        {
            "deployments": [LARGE.model_dump()],
            "cascade": {"tiers": ["large", "large"], "value_per_quality": 1.0},
            "categories": {"code": {"cascade": {"tiers": ["large"]}}},
        }
    )
    problems = check_config(config, category_models={"code": ["large"]}, env={})
    assert [problem.key for problem in problems] == [
        "cascade.tiers.1",
        "cascade.value_per_quality",
        "categories.code.cascade.tiers",
    ]
    assert {problem.severity for problem in problems} == {"warning"}


@pytest.mark.parametrize(
    ("sections", "keys"),
    [
        ({"cascade": {"tiers": ["large", "small"], "start": "decided"}}, ["cascade.start"]),
        ({"cascade": {"tiers": ["large", "small"], "start": "decided"}, "judge": {"model": "small"}}, []),
        (
            {"categories": {"code": {"cascade": {"tiers": ["large", "small"], "start": "decided"}}}},
            ["categories.code.cascade.start"],
        ),
    ],
)
def test_a_cascade_that_nothing_can_start_is_warned_about(sections: dict[str, Any], keys: list[str]) -> None:
    small = {**LARGE.model_dump(), "name": "small-1", "model": "small"}
    config = Config.model_validate({"deployments": [LARGE.model_dump(), small], **sections})
    problems = check_config(config, category_models=None, env={})
    assert [problem.key for problem in problems if problem.key.endswith(".start")] == keys


@pytest.mark.parametrize("timeout_s", [120.0, 180.0])
def test_a_timeout_that_leaves_no_time_for_a_second_try_is_a_warning(timeout_s: float) -> None:
    slow = Deployment(name="a", model="large", timeout_s=timeout_s)
    problem = only(check_config(Config(deployments=(slow,)), category_models={"code": ["large"]}, env={}))
    assert (problem.severity, problem.key) == ("warning", "deployments.0.timeout_s")
    assert "retries.deadline_s of 120 s" in problem.message
    assert "no time for a second try" in problem.message


def test_a_judge_that_may_wait_for_longer_than_half_of_the_deadline_is_a_warning() -> None:
    config = Config.model_validate(
        {"deployments": [{"name": "a", "model": "large"}], "judge": {"model": "large", "timeout_s": 61.0}}
    )
    assert only(check_config(config, category_models=None, env={})).key == "judge.timeout_s"


def test_problems_of_tiers_count_them_from_1_as_people_do() -> None:
    tiers = {"tiers": ["large", "small", "large"], "max_usd": 1.0}
    config = Config.model_validate(
        {"deployments": BOTH, "cascade": tiers, "categories": {"code": {"cascade": {"tiers": ["small", "gone"]}}}}
    )
    words = [
        problem.message
        for problem in (*check_config(config, category_models={"code": []}, env={"KEY": "k"}), *check_catalog(config))
    ]
    assert any('tier 3 of 3: "large" is a tier already' in message for message in words)
    assert any('tier 2 of 3: no price is known for "small"' in message for message in words)
    assert any("tier 2 of 2 of categories.code.cascade cannot be answered" in message for message in words)
    assert not any("tier 0" in message for message in words)

"""Detection of contradictory keys in ``semroute.yaml``.

It works on plain values of any shape, so that the loader can report contradictions together with invalid values;
values of a wrong shape are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from semroute.config.deployments import VENDORS
from semroute.config.values import Problem, dotted, is_environment_name
from semroute.text.names import did_you_mean

Placed: TypeAlias = tuple[int, Mapping[object, object]]
"""Deployment with its position in the file."""


def conflicts(data: object) -> list[Problem]:
    """Return the contradictions in a configuration.

    Two deployments of one name, one key named twice, a deployment of a model that ``models``, where it lists any, does
    not list; a group with the name of a model, or with a member that is no model; a budget for a key that nobody uses;
    a strategy that is asked twice, two rules of one name; a judge of a trial without a budget, or without a deployment.
    """
    if not isinstance(data, Mapping):
        return []
    deployments = list(_deployments(data.get("deployments")))
    return [
        *_repeated_names(deployments),
        *_repeated_keys(deployments),
        *_unlisted_models(deployments, data.get("models")),
        *_impossible_groups(data.get("groups"), _models(deployments, data.get("models"))),
        *_idle_budgets(data.get("budgets"), deployments),
        *_repeated_strategies(data.get("strategies")),
        *_repeated_rules(data.get("rules")),
        *_unusable_judge(data.get("trial"), [*_groups(data.get("groups")), *_models(deployments, None)]),
    ]


def _deployments(data: object) -> Iterator[Placed]:
    yield from ((position, item) for position, item in enumerate(_items(data)) if isinstance(item, Mapping))


def _items(data: object) -> Sequence[object]:
    return data if isinstance(data, list | tuple) else ()


def _models(deployments: list[Placed], models: object) -> list[str]:
    """Return all model names: listed ones, and those of deployments."""
    sections = models if isinstance(models, Mapping) else ()
    names = [*sections, *(deployment.get("model") for _, deployment in deployments)]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _repeated_names(deployments: list[Placed]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, deployment in deployments:
        name = deployment.get("name")
        if not isinstance(name, str):
            continue
        if name in first:
            key = dotted(("deployments", position, "name"))
            message = f'"{dotted([name])}" is already the name of deployments.{first[name]}'
            yield Problem("error", key, message, "give each deployment its own name")
        first.setdefault(name, position)


def _repeated_keys(deployments: list[Placed]) -> Iterator[Problem]:
    for position, deployment in deployments:
        variables = _items(deployment.get("api_key_env"))
        for index, variable in enumerate(variables):
            if isinstance(variable, str) and variable in variables[:index]:
                key = dotted(("deployments", position, "api_key_env", index))
                yield Problem("error", key, "the same variable is named twice", "name each key once")


def _unlisted_models(deployments: list[Placed], models: object) -> Iterator[Problem]:
    if not isinstance(models, Mapping) or not models:
        return
    names = [name for name in models if isinstance(name, str)]
    for position, deployment in deployments:
        model = deployment.get("model")
        if isinstance(model, str) and model not in models:
            fix = did_you_mean(model, names) or f'add "{dotted([model])}: {{}}" under models'
            key = dotted(("deployments", position, "model"))
            yield Problem("error", key, f'unknown model "{dotted([model])}": models does not list it', fix)


def _impossible_groups(groups: object, models: Sequence[str]) -> Iterator[Problem]:
    if not isinstance(groups, Mapping):
        return
    for name, members in groups.items():
        if name in models:
            key = dotted(("groups", name))
            yield Problem("error", key, "is the name of a model as well", "give the group a name of its own")
        for index, member in enumerate(_items(members)):
            key = dotted(("groups", str(name), index))
            if not isinstance(member, str):
                continue
            quoted = f'"{dotted([member])}"'
            if member in _items(members)[:index]:
                yield Problem("error", key, f"{quoted} is in the group already", "name each model once")
            elif member in models:
                continue
            elif member in groups:
                yield Problem("error", key, f"{quoted} is a group, and a group holds models", "list its models instead")
            else:
                fix = did_you_mean(member, models) or "add a deployment of that model"
                yield Problem("error", key, f"unknown model {quoted}: neither models nor a deployment names it", fix)


def _idle_budgets(budgets: object, deployments: list[Placed]) -> Iterator[Problem]:
    if not isinstance(budgets, Mapping):
        return
    used_variables = {variable for _, deployment in deployments for variable in _variables(deployment)}
    for variable in budgets:
        # Anything but a variable's name is refused elsewhere, and may be a secret.
        if isinstance(variable, str) and is_environment_name(variable) and variable not in used_variables:
            suggestion = did_you_mean(variable, filter(is_environment_name, used_variables))
            fix = suggestion or "name it in the api_key_env of a deployment, or remove it"
            yield Problem("error", dotted(("budgets", variable)), "no deployment uses a key of that name", fix)


def _groups(data: object) -> list[str]:
    return [name for name in data if isinstance(name, str)] if isinstance(data, Mapping) else []


def _unusable_judge(trial: object, callable_names: Sequence[str]) -> Iterator[Problem]:
    """Yield errors of the judge that compares the answers of a trial."""
    judge = trial.get("judge") if isinstance(trial, Mapping) else None
    if not isinstance(trial, Mapping) or not isinstance(judge, str):
        return
    if judge not in callable_names:
        fix = did_you_mean(judge, callable_names) or "add a deployment of that model"
        yield Problem("error", "trial.judge", f'no deployment serves "{dotted([judge])}"', fix)
    if trial.get("max_usd") is None:
        message = "a judge costs money with every request that it compares"
        yield Problem("error", "trial.judge", message, "give the comparisons a budget: trial.max_usd, in USD")


def _repeated_strategies(strategies: object) -> Iterator[Problem]:
    for index, name in enumerate(_items(strategies)):
        if isinstance(name, str) and name in _items(strategies)[:index]:
            message = f'"{dotted([name])}" is in the list already'
            yield Problem("error", dotted(("strategies", index)), message, "name each strategy once")


def _repeated_rules(rules: object) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, rule in enumerate(_items(rules)):
        name = rule.get("name") if isinstance(rule, Mapping) else None
        if isinstance(name, str):
            if name in first:
                message = f'"{dotted([name])}" is already the name of rules.{first[name]}'
                yield Problem("error", dotted(("rules", position, "name")), message, "give each rule its own name")
            first.setdefault(name, position)


def _variables(deployment: Mapping[object, object]) -> Iterator[str]:
    """Yield names of a deployment's key variables.

    They are those of its provider's row where the file names none.
    """
    value = deployment.get("api_key_env")
    if value is None:
        provider = deployment.get("provider")
        row = VENDORS.get(provider) if isinstance(provider, str) else None
        value = None if row is None else row.api_key_env
    names = [value] if isinstance(value, str) else _items(value)
    yield from (name for name in names if isinstance(name, str))

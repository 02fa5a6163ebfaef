"""Checks of a valid configuration against the index and environment."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from semroute.config.cascade import CascadeConfig
from semroute.config.schema import Config
from semroute.config.values import Problem, dotted
from semroute.text.names import did_you_mean
from semroute.types import tier_words

# Checks of rules, judge and cascades.


def cascades(config: Config) -> dict[str, CascadeConfig]:
    """Return the general cascade and those of categories, by their keys."""
    overriding = {
        dotted(["categories", name, "cascade"]): override.cascade
        for name, override in config.categories.items()
        if override.cascade is not None
    }
    return {"cascade": config.cascade, **overriding}


def named_models(config: Config) -> dict[str, Sequence[str]]:
    """Return the models and groups that rules, judge and cascades name.

    The keys are phrases for messages, such as ``the judge``.
    """
    models_by_user: dict[str, Sequence[str]] = {}
    for rule in config.rules:
        if rule.use or rule.only:
            models_by_user[f'rule "{dotted([rule.name])}"'] = rule.models
    if config.judge.model is not None:
        models_by_user["the judge"] = (config.judge.model,)
        if config.judge.candidates is not None:
            models_by_user["the choice of the judge"] = config.judge.candidates
    if config.classifier.folder is not None and config.classifier.candidates is not None:
        models_by_user["the choice of the classifier"] = config.classifier.candidates
    for key, cascade in cascades(config).items():
        for position, tier in enumerate(cascade.tiers):
            models_by_user[f"{tier_words(position, len(cascade.tiers))} of {key}"] = (tier.use,)
            accept = cascade.accept if tier.accept is None else tier.accept
            if accept.agreement and tier.use in accept.agreement:
                models_by_user[f"agreement of {tier_words(position, len(cascade.tiers))} of {key}"] = accept.agreement
    return models_by_user


def check_deciding(
    config: Config, category_models: Mapping[str, Sequence[str]] | None, known_models: Collection[str]
) -> Iterator[Problem]:
    """Yield problems of rules, judge and cascades.

    Examples are rules of unknown categories, rules that exclude unknown models and rules that can never apply.

    Args:
        config: a valid configuration.
        category_models: categories of the index; None where there is no index to ask.
        known_models: every model and group that the configuration names elsewhere.
    """
    if category_models is not None:
        yield from _unknown_rule_categories(config, category_models)
    yield from _unknown_exceptions(config, known_models)
    yield from _unreachable(config)
    yield from _unused_strategies(config)
    yield from _bounded_cascade(config, category_models)
    for key, cascade in cascades(config).items():
        yield from _idle_cascade(key, cascade)
        if cascade.start == "decided":
            yield from _idle_start(key, config)


def _unknown_rule_categories(config: Config, categories: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    for position, rule in enumerate(config.rules):
        if rule.category is not None and rule.category not in categories:
            fix = did_you_mean(rule.category, categories) or "build the index with that category"
            key = dotted(("rules", position, "category"))
            yield Problem("error", key, f'the index has no category "{dotted([rule.category])}"', fix)


def _unknown_exceptions(config: Config, models: Collection[str]) -> Iterator[Problem]:
    for position, rule in enumerate(config.rules):
        for index, model in enumerate(rule.except_ or ()):
            if model not in models:
                fix = did_you_mean(model, models) or "remove it"
                key = dotted(("rules", position, "except", index))
                yield Problem("warning", key, f'nothing else names a model "{dotted([model])}"', fix)


def _unreachable(config: Config) -> Iterator[Problem]:
    decided_by: str | None = None
    for position, rule in enumerate(config.rules):
        if decided_by is not None:
            message = f'never applies: rule "{dotted([decided_by])}" before it decides on every query'
            yield Problem("warning", dotted(("rules", position)), message, "move it up, or give that one a condition")
        elif rule.decides and rule.when.is_unconditional:
            decided_by = rule.name


def _idle_cascade(key: str, cascade: CascadeConfig) -> Iterator[Problem]:
    """Yield warnings of a cascade that cannot escalate as written."""
    if len(cascade.tiers) == 1 and cascade.tiers[0].effort is None:
        yield Problem("warning", f"{key}.tiers", "a single tier is not a cascade", "add the tier that comes after it")
    called = [(tier.use, tier.effort) for tier in cascade.tiers]
    for position, (name, _) in enumerate(called):
        if called[position] in called[:position]:
            ordinal = tier_words(position, len(called))
            message = f'{ordinal}: "{dotted([name])}" is a tier already, and would answer the same again'
            fix = "name each model once, or give its tiers different efforts"
            yield Problem("warning", f"{key}.tiers.{position}", message, fix)
    if cascade.value_per_quality is not None and all(tier.quality is None for tier in cascade.tiers):
        fix = "give the tiers a quality, such as {use: large, quality: 0.9}"
        yield Problem("warning", f"{key}.value_per_quality", "no tier has an expected quality", fix)


def _bounded_cascade(config: Config, category_models: Mapping[str, Sequence[str]] | None) -> Iterator[Problem]:
    """Yield warnings of models that cut tiers off the general cascade.

    These are models of categories, and of the fallback.
    """
    if len(config.cascade.tiers) < 2:
        return
    tiers = {tier.use: set(config.members(tier.use)) for tier in config.cascade.tiers}
    users_by_message: dict[str, list[str]] = {}
    for user, names in _cascade_users(config, category_models):
        models = dict.fromkeys(model for name in names for model in config.members(name))
        remaining = [use for use, members in tiers.items() if not members.isdisjoint(models)]
        idle = [model for model in models if not any(model in members for members in tiers.values())]
        if len(remaining) < 2:
            prefix = f'of the tiers only "{dotted(remaining)}" is' if remaining else "no tier is"
            users_by_message.setdefault(
                f"{prefix} among its models, which are called in their order without a cascade", []
            ).append(user)
        elif idle:
            quoted = ", ".join(f'"{dotted([model])}"' for model in idle)
            users_by_message.setdefault(f"{quoted} is no tier of the cascade and is not called", []).append(user)
    for message, users in users_by_message.items():
        fix = 'name the tiers under its models, or give the category a cascade of its own ("cascade: false" for none)'
        yield Problem("warning", "cascade.tiers", f"{', '.join(users)}: {message}", fix)


def _cascade_users(
    config: Config, category_models: Mapping[str, Sequence[str]] | None
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the users of the general cascade, each with its own models."""
    overrides = {name: override.models for name, override in config.categories.items() if override.models is not None}
    are_reached = "semantic" in config.strategies or any(rule.category is not None for rule in config.rules)
    is_fallbacks = True
    for name, models in {**(category_models or {}), **overrides}.items() if are_reached else ():
        override = config.categories.get(name)
        if override is None or override.cascade is None:
            is_fallbacks = False
            if models or config.fallback.is_written:
                yield f'category "{dotted([name])}"', models or config.fallback.models
    # Where every category has a cascade of its own, the general one is the fallback's; unknown without an index.
    if not is_fallbacks and category_models is not None and config.fallback.is_written:
        yield "the fallback", config.fallback.models


def _idle_start(key: str, config: Config) -> Iterator[Problem]:
    """Yield a warning where nothing decides on the tier to start at."""
    if key != "cascade":
        message = "the choice of the classifier or the judge starts the general cascade, never a category's"
        yield Problem("warning", f"{key}.start", message, "set it under cascade")
        return
    may_decide = {"classifier": config.classifier.folder, "judge": config.judge.model}
    is_decided = any(may_decide[name] for name in config.strategies if name in may_decide)
    if not is_decided and not config.plugin_strategies:
        message = "neither a classifier nor a judge is asked, so that nothing decides where to start"
        yield Problem("warning", f"{key}.start", message, "set one of them, or leave start out")


def _unused_strategies(config: Config) -> Iterator[Problem]:
    if config.rules and "rules" not in config.strategies:
        yield Problem("warning", "rules", 'they are not used: strategies does not name "rules"', "add it there")
    if config.judge.model is not None and "judge" not in config.strategies:
        yield Problem("warning", "judge", 'it is not used: strategies does not name "judge"', "add it there")


NO_CATEGORY = "the index has no such category"


def check_config(
    config: Config, *, category_models: Mapping[str, Sequence[str]] | None, env: Mapping[str, str]
) -> list[Problem]:
    """Compare a configuration with the index and the environment.

    Args:
        config: a valid configuration.
        category_models: each category of the index with its models in order; None when there is no index to ask.
        env: the environment in which queries will be answered.

    Returns:
        Errors first: a category, a rule, the judge or the fallback none of whose models can be called, a category that
        the index does not have. Warnings: one model of several that cannot be called, a key that is not set, a
        deployment that nothing uses, a rule that never applies, a time limit that the request's deadline overtakes. A
        group stands for its members.
    """
    users = _users(config, category_models or {})
    problems = [
        *_uncallable(config, users),
        *([] if category_models is None else unknown_categories(config, category_models, NO_CATEGORY)),
        *check_deciding(config, category_models, _known(config, category_models or {})),
        *_unset_keys(config, env),
        *_short_deadlines(config),
        *(_unused(config, users) if category_models is not None else ()),
    ]
    return sorted(problems, key=lambda problem: problem.severity)  # "error" sorts before "warning"; stable otherwise


def check_routing(
    config: Config, *, category_models: Mapping[str, Sequence[str]] | None, env: Mapping[str, str]
) -> list[Problem]:
    """Check a configuration without deployments, which only routes.

    With deployments use :func:`check_config`.
    """
    message = "it names no deployments: queries are routed, and no model can be called"
    fix = "add deployments to have queries answered; a policy.yaml goes into a semroute.yaml that has some"
    problems = check_config(config, category_models=category_models, env=env)
    return [
        *(problem for problem in problems if problem.key != "deployments"),
        Problem("warning", "deployments", message, fix),
    ]


def _users(config: Config, category_models: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return the models of each user, by a phrase for messages.

    Groups are expanded to their members.
    """
    models_of: dict[str, Sequence[str]] = {"the fallback": config.fallback.models, **named_models(config)}
    overrides = {name: override.models for name, override in config.categories.items() if override.models is not None}
    for name, models in {**category_models, **overrides}.items():
        models_of[f'category "{dotted([name])}"'] = models
    return {user: [member for name in names for member in config.members(name)] for user, names in models_of.items()}


def _known(config: Config, category_models: Mapping[str, Sequence[str]]) -> set[str]:
    """Return every name of a model or group."""
    users = _users(config, category_models).values()
    deployed = {deployment.model for deployment in config.deployments}
    return {*config.groups, *config.models, *deployed, *(model for models in users for model in models)}


def _uncallable(config: Config, users: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    callable_models = {deployment.model for deployment in config.deployments}
    uncallable = dict.fromkeys(model for models in users.values() for model in models if model not in callable_models)
    for model in uncallable:
        with_it = [user for user, models in users.items() if model in models]
        unservable = [user for user in with_it if callable_models.isdisjoint(users[user])]
        consequence = (
            f"{_list(unservable)} cannot be answered" if unservable else f"{_list(with_it)} will go without it"
        )
        yield Problem(
            "error" if unservable else "warning",
            "deployments",
            f'no deployment of model "{dotted([model])}": {consequence}',
            did_you_mean(model, callable_models | config.groups.keys())
            or f'add a deployment with "model: {dotted([model])}"',
        )


def unknown_categories(config: Config, categories: Mapping[str, Sequence[str]], message: str) -> list[Problem]:
    """Return a problem for each override of an unknown category."""
    return [
        Problem(
            "error",
            dotted(["categories", name]),
            message,
            did_you_mean(name, categories) or "remove it, or build the index with that category",
        )
        for name in config.categories
        if name not in categories
    ]


def _unset_keys(config: Config, env: Mapping[str, str]) -> Iterator[Problem]:
    variables = dict.fromkeys(variable for deployment in config.deployments for variable in deployment.api_key_env)
    missing = [variable for variable in variables if not env.get(variable, "").strip()]
    for variable in missing:
        users = [(i, entry) for i, entry in enumerate(config.deployments) if variable in entry.api_key_env]
        unusable = [entry for _, entry in users if all(name in missing for name in entry.api_key_env)]
        names = _list([f'"{dotted([entry.name])}"' for entry in unusable or [entry for _, entry in users]])
        consequence = f"{names} cannot be called without" if unusable else f"{names} will use the other keys alone"
        key = dotted(("deployments", users[0][0], "api_key_env"))
        yield Problem("warning", key, f"{variable} is not set, and {consequence}", f"export {variable}")
    password = config.state_password_env
    if password is not None and not env.get(password, "").strip():
        message = f"{password} is not set, and the shared state is asked without a password"
        yield Problem("warning", "state_password_env", message, f"export {password}, or remove the key")


def _short_deadlines(config: Config) -> Iterator[Problem]:
    """Yield warnings of call limits that leave no time for a failover.

    They are compared with the request's deadline.
    """
    deadline_s = config.retries.deadline_s
    for position, deployment in enumerate(config.deployments):
        if deployment.timeout_s >= deadline_s:
            message = (
                f"{deployment.timeout_s:g} s is not below retries.deadline_s of {deadline_s:g} s: a call that hangs "
                "leaves no time for a second try, or is cut short for it"
            )
            fix = f"lower it, or set retries.deadline_s above {deployment.timeout_s:g}"
            yield Problem("warning", dotted(("deployments", position, "timeout_s")), message, fix)
    if config.judge.model is not None and config.judge.timeout_s > deadline_s / 2:
        message = f"a judge is waited for at most half of retries.deadline_s, which is {deadline_s:g} s"
        yield Problem("warning", "judge.timeout_s", message, f"lower it to {deadline_s / 2:g} or less")


def _unused(config: Config, users: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    used_models = {model for models in users.values() for model in models}
    for position, deployment in enumerate(config.deployments):
        if deployment.model not in used_models:
            message = f'no category, rule or fallback uses model "{dotted([deployment.model])}"'
            fix = (
                did_you_mean(deployment.model, used_models) or "remove the deployment, or name its model in a category"
            )
            yield Problem("warning", dotted(("deployments", position, "model")), message, fix)


def _list(words: Sequence[str], limit: int = 4) -> str:
    listed = list(words[:limit])
    if len(words) > limit:
        listed.append(f"{len(words) - limit} more")
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"

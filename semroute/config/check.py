"""What a valid configuration still lacks before queries can be answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from semroute.config.deciding_check import check_deciding, named_models
from semroute.config.problem import Problem, did_you_mean, dotted
from semroute.config.schema import Config

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
        the index lacks. Warnings: one model of several that cannot be called, a key that is not set, a deployment that
        nothing uses, a rule that never applies, a time limit that the request's deadline overtakes. A group stands for
        its members.
    """
    users = _users(config, category_models or {})
    problems = [
        *_uncallable(config, users),
        *([] if category_models is None else unknown_categories(config, category_models, NO_CATEGORY)),
        *check_deciding(config, category_models, _known(config, category_models or {})),
        *_unset_keys(config, env),
        *_no_room(config),
        *(_unused(config, users) if category_models is not None else ()),
    ]
    return sorted(problems, key=lambda problem: problem.severity)  # "error" sorts before "warning"; stable otherwise


def check_routing(
    config: Config, *, category_models: Mapping[str, Sequence[str]] | None, env: Mapping[str, str]
) -> list[Problem]:
    """Check a configuration without deployments, which routes queries and answers none: :func:`check_config` else."""
    message = "it names no deployments: queries are routed, and no model can be called"
    fix = "add deployments to have queries answered; a policy.yaml goes into a semroute.yaml that has some"
    found = check_config(config, category_models=category_models, env=env)
    return [*(one for one in found if one.key != "deployments"), Problem("warning", "deployments", message, fix)]


def _users(config: Config, category_models: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The models of all who use any, by the words that name the user; groups are their members."""
    named: dict[str, Sequence[str]] = {"the fallback": config.fallback.models, **named_models(config)}
    overrides = {name: own.models for name, own in config.categories.items() if own.models is not None}
    for name, models in {**category_models, **overrides}.items():
        named[f'category "{dotted([name])}"'] = models
    return {user: [member for name in names for member in config.members(name)] for user, names in named.items()}


def _known(config: Config, category_models: Mapping[str, Sequence[str]]) -> set[str]:
    """Every name of a model or group."""
    used = _users(config, category_models).values()
    placed = {deployment.model for deployment in config.deployments}
    return {*config.groups, *config.models, *placed, *(model for models in used for model in models)}


def _uncallable(config: Config, users: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    callable_models = {deployment.model for deployment in config.deployments}
    missing = dict.fromkeys(model for models in users.values() for model in models if model not in callable_models)
    for model in missing:
        with_it = [user for user, models in users.items() if model in models]
        stuck = [user for user in with_it if callable_models.isdisjoint(users[user])]
        consequence = f"{_list(stuck)} cannot be answered" if stuck else f"{_list(with_it)} will go without it"
        yield Problem(
            "error" if stuck else "warning",
            "deployments",
            f'no deployment of model "{dotted([model])}": {consequence}',
            did_you_mean(model, callable_models | config.groups.keys())
            or f'add a deployment with "model: {dotted([model])}"',
        )


def unknown_categories(config: Config, known: Mapping[str, Sequence[str]], message: str) -> list[Problem]:
    """Find overrides of categories that there are not."""
    return [
        Problem(
            "error",
            dotted(["categories", name]),
            message,
            did_you_mean(name, known) or "remove it, or build the index with that category",
        )
        for name in config.categories
        if name not in known
    ]


def _unset_keys(config: Config, env: Mapping[str, str]) -> Iterator[Problem]:
    variables = dict.fromkeys(variable for deployment in config.deployments for variable in deployment.api_key_env)
    unset = [variable for variable in variables if not env.get(variable, "").strip()]
    for variable in unset:
        users = [(i, place) for i, place in enumerate(config.deployments) if variable in place.api_key_env]
        stuck = [place for _, place in users if all(other in unset for other in place.api_key_env)]
        names = _list([f'"{dotted([place.name])}"' for place in stuck or [place for _, place in users]])
        consequence = f"{names} cannot be called without" if stuck else f"{names} will use the other keys alone"
        key = dotted(("deployments", users[0][0], "api_key_env"))
        yield Problem("warning", key, f"{variable} is not set, and {consequence}", f"export {variable}")
    password = config.state_password_env
    if password is not None and not env.get(password, "").strip():
        message = f"{password} is not set, and the shared state is asked without a password"
        yield Problem("warning", "state_password_env", message, f"export {password}, or remove the key")


def _no_room(config: Config) -> Iterator[Problem]:
    """Limits of one call that leave no time for another within the request's deadline."""
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
    used = {model for models in users.values() for model in models}
    for position, deployment in enumerate(config.deployments):
        if deployment.model not in used:
            message = f'no category, rule or fallback uses model "{dotted([deployment.model])}"'
            fix = did_you_mean(deployment.model, used) or "remove the deployment, or name its model in a category"
            yield Problem("warning", dotted(("deployments", position, "model")), message, fix)


def _list(words: Sequence[str], most: int = 4) -> str:
    shown = list(words[:most])
    if len(words) > most:
        shown.append(f"{len(words) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"

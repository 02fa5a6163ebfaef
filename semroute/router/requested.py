"""Requested decisions: a preference, category or policy, no model.

A name asks for it where there is room for nothing but a model's name, as in a request to the gateway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from semroute.config import Config, Problem
from semroute.config.values import dotted
from semroute.dispatch.constraints import ANYTHING, POLICIES, PREFERENCES, Constraints, Preference
from semroute.errors import NoDeploymentError
from semroute.text.names import did_you_mean
from semroute.text.signals import tool_history
from semroute.types import TRIAL, Decision, Request, StrategyResult, tier_label

PREFERENCE = "preference"
"""Strategy name of a decision whose models were put in order by the caller's preference."""
POLICY = "policy"
"""Name of the strategy result that notes which of the configuration's policies the caller asks for."""
STALL = "stall"
"""Strategy name of a decision that asks a stronger model, since the conversation repeats itself."""

# Decisions of what a caller asks for.


def as_requested(decision: Decision, constraints: Constraints) -> Decision:
    """Return a decision marked with the policy that its caller asks for.

    The propensity of a free choice is removed.
    """
    if constraints.policy is None and constraints.category is None:
        return decision
    decision = without_propensity(decision)
    if constraints.policy in (None, "serving"):
        return decision
    is_trial = constraints.policy == "trial"
    reason = f"the caller asks for the policy {'on trial' if is_trial else constraints.policy}"
    result = StrategyResult(TRIAL if is_trial else POLICY, "decided", reason, decision.candidates, decision.category)
    return replace(decision, opinions=(*decision.opinions, result))


def ordered(decision: Decision, request: Request, constraints: Constraints, config: Config) -> Decision:
    """Return a decision whose models are in the order that its request is due.

    That is the order of the caller's preference. Without one, a conversation that repeats itself goes one model up.
    """
    if not decision.candidates:
        return decision
    if constraints.preference != "balanced":
        return preferred(decision, constraints.preference, config)
    if config.on_stall == "escalate" and (history := tool_history(request.messages)).is_stalled:
        return escalated(decision, named_models(decision)[0], config, str(history))
    return decision


def preferred(decision: Decision, preference: Preference, config: Config) -> Decision:
    """Return a decision whose models are in the order of a preference.

    The models are those that it names, its cascade's tiers among them. They are called from the lowest price up or from
    the highest down, input and output price together at the cheapest deployment; where a price is not known, in the
    order of the decision, which has the cheapest first, or in the reverse of it.
    """
    named = named_models(decision)
    if preference == "balanced" or not named:
        return decision
    # Deciding alone needs no prices, whose list is slow to import.
    from semroute.catalog import price_level

    levels = [price_level(name, config) for name in named]
    known = [level for level in levels if level is not None]
    order, sign = (named, 1) if preference == "cheap" else (named[::-1], -1)
    if len(known) == len(named):
        by_name = dict(zip(named, known, strict=True))
        # A stable sort: of equal prices the decision's first is the better choice.
        order = tuple(sorted(named, key=lambda name: sign * by_name[name]))
    # The first tier of a model has its lowest effort, the last one its highest.
    effort = _effort(decision, order[0], is_last=preference == "best")
    most = {"cheap": "costs least", "best": "costs most"}[preference]
    reason = f"{preference}: {order[0]} {most} of {', '.join(named)}; {decision.reason}"
    return replace(revised(decision, order, PREFERENCE, reason), efforts=effort)


def _effort(decision: Decision, name: str, *, is_last: bool) -> tuple[str | None, ...]:
    """Return the effort of the first or last tier of a name; "" for none."""
    tiers = zip(decision.cascade, decision.efforts, strict=False)
    efforts = [effort for tier, effort in tiers if name in tier]
    found = efforts[-1 if is_last else 0] if efforts else None
    return () if found is None else (found,)


def escalated(decision: Decision, above: str, config: Config, why: str) -> Decision:
    """Return a decision that asks the models above another one first.

    They are in the order of their prices.

    Where none of those that it names costs more, the same model is asked at the effort of its last tier; where that is
    that of its first tier, the decision stays the same. Where a price is not known, those after it in the decision's
    order are above it.

    Args:
        decision: the decision, which names the models.
        above: the model that did not get on.
        config: prices.
        why: reason, for people.
    """
    from semroute.catalog import price_level

    named = named_models(decision)
    levels = {name: price_level(name, config) for name in (*named, above)}
    least = levels[above]
    if least is None or None in levels.values():
        higher = named[named.index(above) + 1 :] if above in named else ()
    else:
        known = {name: level for name in named if (level := levels[name]) is not None and level > least}
        higher = tuple(sorted(known, key=known.__getitem__))
    first = higher[0] if higher else above
    effort = _effort(decision, first, is_last=not higher)
    if not higher and effort == _effort(decision, above, is_last=False):
        return decision
    reason = f"{why}: {tier_label(first, effort[0] if effort else None)} in place of {above}; {decision.reason}"
    return replace(revised(decision, tuple(dict.fromkeys((*higher, *named))), STALL, reason), efforts=effort)


def named_models(decision: Decision) -> tuple[str, ...]:
    """Return the models that a decision names.

    They are those of its cascade's tiers, or its candidates.
    """
    return tuple(dict.fromkeys(name for tier in decision.cascade for name in tier)) or decision.candidates


def revised(decision: Decision, candidates: tuple[str, ...], strategy: str, reason: str) -> Decision:
    """Return a decision with other candidates, called in their order.

    It has no cascade and none of its efforts.

    Its model was not drawn, so that no propensity holds for it.
    """
    result = StrategyResult(strategy, "decided", reason, candidates, decision.category)
    return replace(
        decision,
        model=candidates[0],
        candidates=candidates,
        cascade=(),
        efforts=(),
        strategy=strategy,
        reason=reason,
        opinions=(*without_propensity(decision).opinions, result),
    )


def without_propensity(decision: Decision) -> Decision:
    """Return a decision without propensity.

    Something else than the assignment chose.
    """
    opinions = tuple(
        opinion if opinion.draw is None else replace(opinion, draw=replace(opinion.draw, probability=None))
        for opinion in decision.opinions
    )
    return replace(decision, opinions=opinions)


# Names that ask for it.

AUTO = "auto"
ALIASES = (AUTO, "semroute", "claude-auto", "gpt-auto")
"""Names under which the router chooses; some agents accept only names that begin like a vendor's."""
LISTED_ALIASES = (AUTO, "claude-auto", "gpt-auto")
"""Those of them that a list of models shows."""


def _preference_names() -> Iterator[tuple[str, Preference]]:
    for alias in ALIASES:
        yield alias, "balanced"
        for preference in PREFERENCES:
            # Some clients take what stands before a slash for a provider.
            yield f"{alias}/{preference}", preference
            yield f"{alias}-{preference}", preference


AUTO_NAMES: Mapping[str, Preference] = dict(_preference_names())
"""Preference of each name under which the router chooses: ``auto``, ``auto/best``, ``claude-auto-best``, …"""


def plain_name(name: str) -> str:
    """Return the plainest of equivalent model names.

    ``claude-auto-best`` is ``auto/best``, and the aliases of ``auto`` are ``auto``.
    """
    preference = AUTO_NAMES.get(name)
    if preference is None:
        return name
    return AUTO if preference == "balanced" else f"{AUTO}/{preference}"


def constraints_of(
    name: str, config: Config, categories: Collection[str], callable_by: Collection[str] | None = None
) -> Constraints:
    """Return the constraints that a model name stands for.

    Of equal names the first of these holds: ``auto`` with its preferences, models and groups, categories, policies.

    Args:
        name: as a client gives it.
        config: models, groups and the policy on trial.
        categories: categories of the index.
        callable_by: :func:`callable_names` of the configuration, for a server that asks with each request.

    Raises:
        NoDeploymentError: there is no such name.
    """
    if name in AUTO_NAMES:
        preference = AUTO_NAMES[name]
        return ANYTHING if preference == "balanced" else Constraints(preference=preference)
    if name in (callable_names(config) if callable_by is None else callable_by):
        return Constraints(model=name)
    if name in categories:
        return Constraints(category=name)
    for policy in policy_names(config):
        if name == policy:
            return Constraints(policy=policy)
    known = sorted({*AUTO_NAMES, *callable_names(config), *categories, *policy_names(config)})
    raise NoDeploymentError(f"there is no model {name!r}{did_you_mean(name, known)}; GET /v1/models lists them")


def callable_names(config: Config) -> tuple[str, ...]:
    """Return the models that have a deployment, and the groups."""
    return tuple(dict.fromkeys([*(one.model for one in config.deployments), *config.groups]))


def policy_names(config: Config) -> Sequence[str]:
    """Return the policies that a caller can ask for by name.

    Where one is on trial, both.
    """
    return (*(POLICIES if config.trial.policy is not None else ()), *config.policies)


def name_clashes(config: Config, categories: Collection[str]) -> Iterator[Problem]:
    """Yield a warning for each name that asks a gateway for something else.

    Names are those of models, groups, categories and policies.
    """
    for name in callable_names(config):
        if name in AUTO_NAMES:
            section = "groups" if name in config.groups else "deployments"
            message = f'the model name "{dotted([name])}" of a request lets the router choose, and never names this one'
            yield Problem("warning", section, message, "give it another name")
    asked: dict[str, str] = dict.fromkeys(policy_names(config), "this category, and not for the policy")
    asked |= dict.fromkeys(callable_names(config), "the model or group, and not for this category")
    asked |= dict.fromkeys(AUTO_NAMES, "the router's own choice, and not for this category")
    for name in categories:
        if name in asked:
            message = f'the model name "{dotted([name])}" of a request asks for {asked[name]}'
            yield Problem("warning", dotted(["categories", name]), message, "give one of them another name")
    taken = {*AUTO_NAMES, *callable_names(config), *POLICIES}
    for name in config.policies:
        if name in taken:
            message = f'the model name "{dotted([name])}" of a request asks for something else, and not for this policy'
            yield Problem("warning", dotted(["policies", name]), message, "give it another name")

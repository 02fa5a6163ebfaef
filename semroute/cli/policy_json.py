"""A comparison of policies as JSON-ready values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from semroute.evaluate.plain import finite

if TYPE_CHECKING:
    from semroute.cli.policy_inputs import ComparisonInputs
    from semroute.evaluate.curves.bootstrap import Interval
    from semroute.evaluate.study.results import PolicyResult, Study


def comparison_dict(study: Study, unseen: Study | None, inputs: ComparisonInputs) -> dict[str, object]:
    """The whole comparison; what is not defined is null."""
    return {
        "outcomes": inputs.title,
        "notes": list(inputs.notes),
        "warnings": [*inputs.warnings, *inputs.findings],
        "left_out": inputs.selected.left_out,
        "costs": {name: getattr(inputs.costs, name) for name in ("told", "reckoned", "counted", "averaged", "assumed")},
        "predictions": None
        if inputs.predictions is None
        else {
            "queries": len(inputs.predictions.seen),
            "trained_on": inputs.predictions.trained_on,
            "not_told": inputs.predictions.not_told,
        },
        **study_dict(study),
        "unseen_tasks": None if unseen is None else study_dict(unseen),
    }


def study_dict(study: Study) -> dict[str, object]:
    """One comparison."""
    roles = study.roles
    return {
        "n": study.n,
        "method": study.method,
        "plan": {name: value for name, value in asdict(study.plan).items() if name != "leave_tasks_out"},
        "duplicates": {"same_text": study.duplicates.same_text, "near": study.duplicates.near},
        "dropped": study.dropped,
        "cheapest": study.models[roles.cheapest],
        "strongest": study.models[roles.strongest],
        "models": {
            model: {"quality": interval_dict(study.quality[model]), "cost_usd": interval_dict(study.cost[model])}
            for model in study.models
        },
        "best_single": {
            "quality": interval_dict(study.best_quality),
            "cost_usd": interval_dict(study.best_cost),
            "models": dict(study.best_shares),
        },
        "zero_router": {"aiq": interval_dict(study.zero_aiq)},
        "random_mixing": {"aiq": interval_dict(study.mixing_aiq)},
        "policies": {policy.name: policy_dict(policy, study.models) for policy in study.policies},
    }


def policy_dict(policy: PolicyResult, models: tuple[str, ...]) -> dict[str, object]:
    """One policy, with every point of its curve."""
    figures, curve = policy.figures, policy.curve
    names = ("aiq", "aiq_gain", "perf_gain", "full_gain", "cost_save", "pareto_distance", "arena")
    points = zip(curve.parameters, curve.quality[0], curve.cost[0], curve.shares, strict=True)
    return {
        **{name: interval_dict(getattr(figures, name)) for name in names},
        "pair": None
        if policy.pair is None
        else {
            "apgr": interval_dict(policy.pair.apgr),
            "apgr_over_length": None if policy.pair.apgr_gain is None else interval_dict(policy.pair.apgr_gain),
            "cpt": {f"{level:g}": interval_dict(at) for level, at in policy.pair.cpt.items()},
            "deferral_area": interval_dict(policy.pair.area),
        },
        "predictions": {
            model: {"auroc": interval_dict(of.auroc), "ece": interval_dict(of.ece)}
            for model, of in policy.predictions.items()
        },
        "tasks": [{name: finite(value) for name, value in asdict(task).items()} for task in policy.tasks],
        "needed": asdict(policy.needed),
        "estimates": {
            name: {key: finite(value) for key, value in asdict(of).items()} for name, of in policy.estimates.items()
        },
        "matching": figures.matching,
        "curve": [
            {
                # JSON has no infinity: null is the end at which only quality counts.
                "value_usd": finite(float(value)),
                "quality": float(quality),
                "cost_usd": float(cost),
                "shares": dict(zip(models, map(float, shares), strict=True)),
            }
            for value, quality, cost, shares in points
        ],
    }


def interval_dict(figure: Interval) -> dict[str, object]:
    """A figure with its interval."""
    return {"value": finite(figure.value), "low": finite(figure.low), "high": finite(figure.high)}

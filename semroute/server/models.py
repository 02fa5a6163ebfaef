"""Model names of the gateway, listed in both vendors' shapes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from semroute.catalog import model_card
from semroute.config import Config
from semroute.router.requested import AUTO, LISTED_ALIASES, callable_names, policy_names


@dataclass(frozen=True, slots=True)
class ListedModel:
    """Model name in the list, with the limits of every model behind it.

    Attributes:
        id: the name.
        context: the shortest of their context windows, in tokens, as far as these are known; None where none is.
        max_output: the same of their longest answers.
    """

    id: str
    context: int | None
    max_output: int | None


def listed_models(config: Config, categories: Mapping[str, Sequence[str]]) -> list[ListedModel]:
    """Return the names that a request may give as its model, each once.

    Args:
        config: models, groups and policies.
        categories: models and groups of each category of the index.
    """
    everything = tuple(dict.fromkeys(one.model for one in config.deployments))
    named: dict[str, Sequence[str]] = {}
    for name, models in (
        *((name, everything) for name in _auto_names()),
        *((name, config.members(name)) for name in callable_names(config)),
        *((name, _of_category(name, models, config)) for name, models in categories.items()),
        *((name, everything) for name in policy_names(config)),
    ):
        named.setdefault(name, models)  # of equal names the first holds, as for a request
    return [_with_limits(name, models, config) for name, models in named.items()]


def _of_category(name: str, models: Sequence[str], config: Config) -> list[str]:
    """Return the models of a category, with those of its own cascade."""
    override = config.categories.get(name)
    tiers = () if override is None or override.cascade is None else override.cascade.tiers
    return [one for model in (*models, *(tier.use for tier in tiers)) for one in config.members(model)]


def _auto_names() -> Iterator[str]:
    for alias in LISTED_ALIASES:
        yield alias
        # Agents that check how a name begins may not expect a slash in it.
        mark = "/" if alias == AUTO else "-"
        yield from (f"{alias}{mark}cheap", f"{alias}{mark}best")


def _with_limits(name: str, models: Collection[str], config: Config) -> ListedModel:
    deployed = {deployment.model for deployment in config.deployments}
    cards = [model_card(model, config) for model in models if model in deployed]
    return ListedModel(name, _least(card.context for card in cards), _least(card.max_output for card in cards))


def _least(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def openai_list(models: Sequence[ListedModel]) -> Mapping[str, object]:
    """Return the list of names in OpenAI's shape, with known limits.

    These are ``context_window`` and ``max_output_tokens``.
    """
    data = [
        {"id": model.id, "object": "model", "created": 0, "owned_by": "semroute"}
        | _known({"context_window": model.context, "max_output_tokens": model.max_output})
        for model in models
    ]
    return {"object": "list", "data": data}


def anthropic_list(models: Sequence[ListedModel]) -> Mapping[str, object]:
    """Return the list of names in Anthropic's shape, with known limits.

    These are ``max_input_tokens`` and ``max_tokens``.
    """
    at = datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = [
        {"type": "model", "id": model.id, "display_name": model.id, "created_at": at}
        | _known({"max_input_tokens": model.context, "max_tokens": model.max_output})
        for model in models
    ]
    return {"data": data, "has_more": False, "first_id": models[0].id, "last_id": models[-1].id}


def _known(limits: Mapping[str, int | None]) -> dict[str, object]:
    return {name: limit for name, limit in limits.items() if limit is not None}

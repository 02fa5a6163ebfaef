"""Model names that the gateway takes, and their list in both vendors' shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from semroute.config import Config
from semroute.dispatch.constraints import ANYTHING, Constraints
from semroute.errors import NoDeploymentError
from semroute.text.names import did_you_mean

AUTO = "auto"
ALIASES = (AUTO, "semroute", "claude-auto", "gpt-auto")
"""Names under which the router chooses; some agents accept only names that begin like a vendor's."""


def constraints_of(name: str, config: Config) -> Constraints:
    """Return the limits that a model name stands for: none for ``auto``, else that model or group.

    Raises:
        NoDeploymentError: there is no such name.
    """
    if name in ALIASES:
        return ANYTHING
    if name in _names(config):
        return Constraints(model=name)
    known = sorted({AUTO, *_names(config)})
    raise NoDeploymentError(f"there is no model {name!r}{did_you_mean(name, known)}; GET /v1/models lists them")


def _names(config: Config) -> tuple[str, ...]:
    """Return models that have a deployment, and groups."""
    return tuple(dict.fromkeys([*(one.model for one in config.deployments), *config.groups]))


def openai_list(config: Config) -> Mapping[str, object]:
    """Return the list of names in OpenAI's shape."""
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "semroute"} for name in _listed(config)]
    return {"object": "list", "data": data}


def anthropic_list(config: Config) -> Mapping[str, object]:
    """Return the list of names in Anthropic's shape."""
    at = datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = [{"type": "model", "id": name, "display_name": name, "created_at": at} for name in _listed(config)]
    ids = [str(entry["id"]) for entry in data]
    return {"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}


def _listed(config: Config) -> Iterator[str]:
    yield from (name for name in ALIASES if name != "semroute")
    yield from _names(config)

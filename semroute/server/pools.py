"""Pools without a ``semroute.yaml``: from environment, or the demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semroute.config import Config
from semroute.config.deployments import VENDORS
from semroute.errors import ConfigError

UPSTREAM: Mapping[str, Mapping[str, str]] = {
    # https://platform.openai.com/docs/models
    "openai": {"small": "gpt-6-luna", "medium": "gpt-6.1-terra", "large": "gpt-6.1-sol"},
    # https://platform.claude.com/docs/en/about-claude/models
    "anthropic": {"small": "claude-haiku-5-5", "medium": "claude-sonnet-5-5", "large": "claude-opus-5-5"},
    # https://ai.google.dev/gemini-api/docs/models
    "google": {"small": "gemini-3.5-flash-lite", "medium": "gemini-3.8-flash", "large": "gemini-4-argon"},
}
"""Each vendor's model for each size. Where several vendors have a key, price and speed choose among them."""

SIZES: Mapping[str, str] = {
    "small": "small",
    "translator": "small",
    "medium": "medium",
    "coder": "medium",
    "reasoner": "medium",
    "writer": "medium",
    "large": "large",
}
"""Size of each logical model that the shipped categories name."""

DEMO_PRICES: Mapping[str, Mapping[str, float]] = {
    "small": {"input": 0.1, "output": 0.4},
    "medium": {"input": 1.0, "output": 4.0},
    "large": {"input": 5.0, "output": 20.0},
}
"""USD per million tokens of the demonstration's models."""


def keyed_config(env: Mapping[str, str]) -> Config:
    """Return a configuration of the vendors whose keys are in the environment.

    Raises:
        ConfigError: there is no key; the message names the variables.
    """
    deployments = [
        {"name": f"{vendor}-{model}", "model": model, "provider": vendor, "upstream_model": UPSTREAM[vendor][size]}
        for vendor in UPSTREAM
        if env.get(_variable(vendor))
        for model, size in SIZES.items()
    ]
    if not deployments:
        variables = ", ".join(map(_variable, UPSTREAM))
        raise ConfigError(
            f"there is no semroute.yaml, and none of {variables} is set; set one, run semroute init, or try "
            "semroute serve --demo"
        )
    return Config.model_validate({"deployments": deployments})


def _variable(vendor: str) -> str:
    return VENDORS[vendor].api_key_env or ""


def demo_config(base_url: str) -> Config:
    """Return a configuration of the test double's models.

    The double serves OpenAI's format at ``base_url``.
    """
    deployments: list[dict[str, Any]] = [
        {"name": f"demo-{model}", "model": model, "base_url": base_url, "price": DEMO_PRICES[size]}
        for model, size in SIZES.items()
    ]
    return Config.model_validate({"deployments": deployments})

"""One ``semroute.yaml`` as typed values."""

from __future__ import annotations

from semroute.config.load import load_config
from semroute.config.problem import Problem
from semroute.config.schema import CategoryOverride, Config, Deployment, Fallback, ModelSpec, Price

__all__ = ["CategoryOverride", "Config", "Deployment", "Fallback", "ModelSpec", "Price", "Problem", "load_config"]

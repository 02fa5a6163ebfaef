"""One ``semroute.yaml`` as typed values."""

from __future__ import annotations

from semroute.config.load import load_config
from semroute.config.places import Deployment, Limits, ModelSpec, Price, Timeouts
from semroute.config.problem import Problem
from semroute.config.resilience import BreakerRules, Hedging, Retries, Selection, Weights
from semroute.config.schema import CategoryOverride, Config, Fallback
from semroute.config.vendors import VENDORS, Vendor

__all__ = [
    "VENDORS",
    "BreakerRules",
    "CategoryOverride",
    "Config",
    "Deployment",
    "Fallback",
    "Hedging",
    "Limits",
    "ModelSpec",
    "Price",
    "Problem",
    "Retries",
    "Selection",
    "Timeouts",
    "Vendor",
    "Weights",
    "load_config",
]

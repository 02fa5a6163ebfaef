"""One ``semroute.yaml`` as typed values."""

from __future__ import annotations

from semroute.config.deciding import Judge, Semantic
from semroute.config.encoder import NamedEncoder
from semroute.config.load import load_config
from semroute.config.log import Log
from semroute.config.places import Deployment, Limits, ModelSpec, Price, Timeouts
from semroute.config.problem import Problem
from semroute.config.resilience import BreakerRules, Hedging, Retries, Selection, Weights
from semroute.config.rules import Condition, Keywords, Range, Rule
from semroute.config.schema import CategoryOverride, Config, Fallback
from semroute.config.vendors import VENDORS, Vendor

__all__ = [
    "VENDORS",
    "BreakerRules",
    "CategoryOverride",
    "Condition",
    "Config",
    "Deployment",
    "Fallback",
    "Hedging",
    "Judge",
    "Keywords",
    "Limits",
    "Log",
    "ModelSpec",
    "NamedEncoder",
    "Price",
    "Problem",
    "Range",
    "Retries",
    "Rule",
    "Selection",
    "Semantic",
    "Timeouts",
    "Vendor",
    "Weights",
    "load_config",
]

"""Typed configuration from one ``semroute.yaml``."""

from __future__ import annotations

from semroute.config.deployments import VENDORS, Deployment, Limits, ModelSpec, Price, Timeouts, Vendor
from semroute.config.load import load_config
from semroute.config.resilience import BreakerRules, Hedging, Retries, Selection, Weights
from semroute.config.routing import Condition, Judge, Keywords, Range, Rule, Semantic
from semroute.config.schema import CategoryOverride, Config, Fallback, Log, NamedEncoder
from semroute.config.values import Problem

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

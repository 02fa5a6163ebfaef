"""Families of policies: each draws a curve, and says how ``semroute.yaml`` writes its points."""

from semroute.learn.policy.families.both import ByClassifierAndCascade
from semroute.learn.policy.families.cascade import CascadeFamily
from semroute.learn.policy.families.category import ByCategory, CategoryTable
from semroute.learn.policy.families.classifier import ByClassifier
from semroute.learn.policy.families.family import Family
from semroute.learn.policy.families.single import SingleModels

__all__ = [
    "ByCategory",
    "ByClassifier",
    "ByClassifierAndCascade",
    "CascadeFamily",
    "CategoryTable",
    "Family",
    "SingleModels",
]

"""Inference of trained heads: vectors to probabilities, in numpy alone. Training is in :mod:`semroute.learn`."""

from semroute.predictors.category_head import MlpHead

__all__ = ["MlpHead"]

"""Inference of trained heads in numpy: vectors to probabilities.

Training is in :mod:`semroute.learn`.
"""

from semroute.predictors.category_head import MlpHead

__all__ = ["MlpHead"]

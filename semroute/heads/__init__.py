"""Inference of trained heads: vectors to probabilities, in numpy alone. Training is in :mod:`semroute.learn`."""

from semroute.heads.mlp import MlpHead

__all__ = ["MlpHead"]

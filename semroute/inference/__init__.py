"""Transformers on the CPU, without torch: texts to token ids, and an ONNX graph over them."""

from semroute.inference.graph import TextGraph
from semroute.inference.tokens import Tokens

__all__ = ["TextGraph", "Tokens"]

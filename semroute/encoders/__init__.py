"""Text encoders: text to unit vectors, behind one protocol.

Each implements :class:`semroute.types.Encoder`. Six kinds, and when to take which:

* ``onnx``, the default: a sentence transformer as an int8 ONNX graph, about 1 ms a query on two cores.
* ``multilingual``: queries in sixteen languages, a quarter of the default's time.
* ``joined``: the default and the multilingual one side by side; as accurate in English as the default.
* ``static``: a vector per token, distilled from a transformer; some 0.1 ms a query, a few points less accurate.
* ``torch``: any sentence-transformers model as it is, for those that cannot be exported; needs the extra "torch".
* ``remote``: an OpenAI-compatible ``/v1/embeddings`` endpoint, for the vectors of another service.

The first four are self-contained files, made by :mod:`semroute.encoders.export` and
:func:`semroute.encoders.static.distill_static`. :func:`save_encoder` writes any kind to a folder with a JSON
description, and :func:`load_encoder` reads it back. :class:`CachedEncoder` caches recent vectors of any.
"""

from __future__ import annotations

from semroute.encoders.cache import CachedEncoder
from semroute.encoders.registry import load_encoder, save_encoder

__all__ = ["CachedEncoder", "load_encoder", "save_encoder"]

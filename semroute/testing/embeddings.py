"""OpenAI's embeddings, for texts of any kind: the same vectors at every call and on every machine.

Source of the shapes: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any

from semroute.testing.checks import need, whole
from semroute.testing.neutral import words


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector for a text, the same on every machine: texts that share words lie nearer to each other."""
    vector = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0] + [0.0] * (dimensions - 1)


def respond(body: Any, dimensions: int) -> tuple[int, dict[str, object]]:
    """Tokens taken, and the list of embeddings, ``dimensions`` long where the request does not say.

    Raises:
        RefusedError: OpenAI would not take the request either.
    """
    need(isinstance(body, dict), "the body is not a JSON object")
    model, given = body.get("model"), body.get("input")
    need(isinstance(model, str) and model, "you must provide a model parameter", "model")
    texts = [given] if isinstance(given, str) else given
    good = isinstance(texts, list) and texts and all(isinstance(text, str) and text for text in texts)
    need(good, "input must be a text or a list of texts, none of them empty", "input")
    asked = body.get("dimensions", dimensions)
    need(whole(asked, 1), "dimensions must be a whole number above 0", "dimensions")
    vectors: list[Any] = [embed(text, asked) for text in texts]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{asked}f", *vector)).decode() for vector in vectors]
    taken = sum(words(text) for text in texts)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": taken, "total_tokens": taken}
    return taken, {"object": "list", "data": data, "model": model, "usage": usage}

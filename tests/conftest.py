"""What is costly to make and shared by the tests of every layer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from semroute.encoders.export import ExportedEncoder


@pytest.fixture(scope="session")
def sentence_transformer() -> SentenceTransformer:
    """The built-in model on torch; tests must leave it as it is."""
    from semroute.encoders.sentence import DEFAULT_MODEL, load

    return load(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def exported_encoder(tmp_path_factory: pytest.TempPathFactory) -> ExportedEncoder:
    """The built-in model as exported files; ``.load()`` gives an encoder, ``.model_path.parent`` is the folder."""
    from semroute.encoders.export import export_onnx
    from semroute.encoders.sentence import DEFAULT_MODEL

    return export_onnx(DEFAULT_MODEL, tmp_path_factory.mktemp("exported_encoder"))


ROUTING_EXAMPLES = {
    "code": ["fix this python traceback", "why does my loop never end", "write a sql join", "explain git rebase",
             "unit test for a parser", "def add(a, b): return a - b  # wrong, why?"],
    "cooking": ["how long do I boil an egg", "recipe for carrot soup", "what can replace butter in a cake",
                "knead bread dough by hand", "season a cast iron pan", "is raw salmon safe to eat"],
    "law": ["is my lease binding", "can my landlord keep the deposit", "what is a non-compete clause",
            "how do I appeal a court ruling", "do I need a will", "rights when I am arrested"],
}  # fmt: skip


@pytest.fixture(scope="session")
def routing_index(exported_encoder: ExportedEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small artifact with the built-in encoder; tests copy it before they change it. Thresholds are 0.2."""
    from semroute.learn.build import Examples, build_artifact, embed, with_thresholds

    names = sorted(ROUTING_EXAMPLES)
    examples = Examples(
        texts=tuple(text for name in names for text in ROUTING_EXAMPLES[name]),
        owners=tuple(name for name in names for _ in ROUTING_EXAMPLES[name]),
        descriptions={name: f"about {name}" for name in names},
        models={"code": ("coder", "large"), "cooking": ("small",), "law": ()},
        pinned={},
    )
    encoder = exported_encoder.load()
    folder = tmp_path_factory.mktemp("routing") / "index"
    artifact, _ = build_artifact(folder, examples, embed(encoder, examples.texts), encoder, head=False)
    with_thresholds(artifact, dict.fromkeys(names, 0.2), "in-scope")
    return folder


@pytest.fixture
def own_index(routing_index: Path, tmp_path: Path) -> Path:
    """A copy of ``routing_index`` to change, ``tmp_path/index``. Its files are links: replace them, never edit them."""
    copy = tmp_path / "index"
    shutil.copytree(routing_index, copy, copy_function=os.link)
    return copy


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Queries with categories of ``routing_index``, two of them out of scope, ``tmp_path/labelled.jsonl``."""
    rows = [
        ("python list index out of range", "code"),
        ("write a unit test for my loop", "code"),
        ("how do I cook a soft egg", "cooking"),
        ("bread recipe without butter", "cooking"),
        ("can the landlord end my lease early", "law"),
        ("appeal against a court decision", "law"),
        ("who won the football match", None),
        ("weather in Paris tomorrow", None),
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps({"query": query, "category": name}) + "\n" for query, name in rows))
    return path

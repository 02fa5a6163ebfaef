"""An artifact of some kilobytes, made in a moment: words to random vectors of eight dimensions, and their mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from semroute.encoders.onnx import OnnxEncoder
from semroute.encoders.static import StaticEncoder
from semroute.index import Artifact, CategoryEntry, FirstStageEntry, Manifest, PrototypeIndex, write_artifact
from semroute.index.manifest import MANIFEST
from semroute.index.scoring import Calibration
from semroute.predictors.category_head import MlpHead
from semroute.types import Encoder

DIMENSIONS = 8
WORDS = ["[UNK]", "egg", "soup", "bread", "loop", "python", "sql", "the", "a", "boil", "fix", "how", "?"]
EXAMPLES = {"code": ["fix the python loop", "sql loop", "fix sql"], "cooking": ["boil a egg", "soup", "bread soup"]}


def write_tokenizer(path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    model = models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path


def table() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((len(WORDS), DIMENSIONS)).astype(np.float32)


def graph(change: Callable[[Any], object] = lambda model: None) -> bytes:
    """The mean of the words' vectors at unit length, as ONNX; ``change`` may do anything to the ``ModelProto``."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["there", "last"], ["weights"]),
        helper.make_node("Mul", ["words", "weights"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "first"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["unit"], axis=-1, p=2),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    unit = [helper.make_tensor_value_info("unit", TensorProto.FLOAT, ["n", DIMENSIONS])]
    constants = {"table": table(), "last": np.array([-1]), "first": np.array([1])}
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    made = helper.make_graph(nodes, "tiny", ids, unit, tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    change(model)
    content: bytes = model.SerializeToString()
    return content


def encoder(folder: Path) -> OnnxEncoder:
    (folder / "encoder.onnx").write_bytes(graph())
    tokenizer = write_tokenizer(folder / "tokenizer.json")
    settings: dict[str, Any] = {"name": "tiny", "fingerprint": "tiny", "dimensions": DIMENSIONS, "max_tokens": 16}
    return OnnxEncoder(folder / "encoder.onnx", tokenizer, threads=1, **settings)


def static_encoder(folder: Path) -> StaticEncoder:
    np.save(folder / "static.npy", table())
    tokenizer = write_tokenizer(folder / "tokenizer.json")
    return StaticEncoder(folder / "static.npy", tokenizer, name="static", fingerprint="static", max_tokens=16)


def head(units: int = 3) -> MlpHead:
    categories, draw = len(EXAMPLES), np.random.default_rng(1)
    shapes = [(DIMENSIONS, units), (units,), (DIMENSIONS, categories), (units, categories), (categories,)]
    return MlpHead(*(draw.standard_normal(shape).astype(np.float32) for shape in shapes))


def index(folder: Path, work: Path) -> Artifact:
    """Write an artifact with a head and a first stage; ``work`` is a folder for what it is made from."""
    own, first = encoder(work), static_encoder(work)
    texts = [text for examples in EXAMPLES.values() for text in examples]
    calibration = Calibration(0.0, 1.0, 1.0)
    probe = "boil a egg"
    counts = {name: len(examples) for name, examples in EXAMPLES.items()}
    entries = {
        name: CategoryEntry(f"about {name}", ("small",), count, count, -1.0, "in-scope")
        for name, count in counts.items()
    }

    def described(one: Encoder, kind: str) -> Mapping[str, Any]:
        own_values = {"name": one.name, "fingerprint": one.fingerprint, "dimensions": one.dimensions}
        return {"kind": kind, "max_tokens": 16, **own_values}

    def probed(one: Encoder) -> tuple[tuple[str, tuple[float, ...]], ...]:
        return ((probe, tuple(float(value) for value in one.encode([probe])[0])),)

    stage = FirstStageEntry(
        described(first, "static"), DIMENSIONS, counts, "mlp", 0.5, calibration, 1.5, None, {}, probed(first)
    )
    manifest = Manifest(
        described(own, "onnx"), DIMENSIONS, entries, "mlp", 0.5, calibration, {}, probed(own), "now", "0", {}, stage
    )

    def write(staging: Path) -> dict[str, Path]:
        files = {"encoder_model": work / "encoder.onnx", "encoder_tokenizer": work / "tokenizer.json"}
        files |= {"first_encoder_model": work / "static.npy", "first_encoder_tokenizer": work / "tokenizer.json"}
        for prefix, one in (("", own), ("first_", first)):
            files[f"{prefix}prototypes"] = staging / f"{prefix}prototypes.faiss"
            PrototypeIndex.build(one.encode(texts), list(counts.values())).write(files[f"{prefix}prototypes"])
            files[f"{prefix}head"] = staging / f"{prefix}head.npz"
            head().write(files[f"{prefix}head"])
        files["examples"] = staging / "examples.jsonl"
        rows = [{"category": name, "query": text} for name, examples in EXAMPLES.items() for text in examples]
        files["examples"].write_text("".join(json.dumps(row) + "\n" for row in rows))
        files["vectors"] = staging / "vectors.npy"
        np.save(files["vectors"], own.encode(texts))
        return files

    return write_artifact(folder, manifest, write)


def put(folder: Path, role: str, content: bytes) -> None:
    """Put other content into an artifact as a stranger does, who writes the hashes too."""
    values = json.loads((folder / MANIFEST).read_text())
    digest = hashlib.sha256(content).hexdigest()
    name = f"{role.replace('_', '')}-{digest[:16]}{Path(values['files'][role]['name']).suffix}"
    (folder / name).write_bytes(content)
    values["files"][role] = {"name": name, "sha256": digest}
    edit(folder, lambda manifest: manifest.update(values))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest; it is replaced, as a build does."""
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    (folder / "new").write_text(json.dumps(values))
    (folder / "new").replace(folder / MANIFEST)

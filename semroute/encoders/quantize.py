"""Quantise ONNX weights to 8 bits, and activations by row.

ONNX Runtime's own ``quantize_dynamic`` takes one range over the whole batch, so that a query's vector depends on its
neighbours in the batch (cosine 0.986 to itself alone). Here every row of activations has its own range, in one of two
ways:

* by block: ``MatMulNBits`` with accuracy level 4 gives each block of a row its scale. Fine enough everywhere.
* by row: ``MatMulIntegerToFloat`` over rows that were divided by their largest value. 2.5 times as fast, but coarser:
  only where the graph shows that it costs little accuracy, which is most of the work of a transformer.

By row go queries and keys (softmax forgives) and the two layers of the feed-forward block. Of these the first takes the
output of a LayerNormalization, whose scale and shift move into the weights, so that what is quantised has no outlying
channels; the second takes the output of a Gelu, which is never below -0.17, so that nearly all levels are for what is
above. Values do not: many tokens attend to [CLS] and [SEP], and would share their rounding error.

Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.types import Matrix

# Editor of an ``onnx.GraphProto``.

SHAPE_ONLY = {"Add", "Mul", "Reshape", "Transpose"}
"""Operators between a projection and its use: bias, scale, and the split into heads."""


class GraphEditor:
    """Editor of a graph: reads the original, collects its new nodes.

    Args:
        graph: an ``onnx.GraphProto``; changed by :meth:`finish`.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._users: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for value in node.input:
                self._users[value].append(node)
        self._nodes: list[Any] = []
        self._outputs: set[str] = set()
        self._added: dict[str, Any] = {}

    def constant(self, value: str) -> NDArray[Any] | None:
        """Return the array of a constant; None where ``value`` is computed."""
        from onnx import numpy_helper

        tensor = self._constants.get(value)
        array: NDArray[Any] | None = None if tensor is None else numpy_helper.to_array(tensor)
        return array

    def maker(self, value: str) -> Any | None:
        """Return the node that computes ``value``; None for other values.

        Other values are inputs and constants.
        """
        return self._makers.get(value)

    def users(self, value: str) -> list[Any]:
        """Return the nodes that take ``value``."""
        return self._users[value]

    def end_use(self, value: str) -> tuple[Any, str] | None:
        """Return the first node after bias, scale and shape operators.

        Returned with the value that it takes.

        None where the path forks or ends, or where an Add joins it with a computed value.
        """
        while len(self._users[value]) == 1:
            user = self._users[value][0]
            is_elementwise = user.op_type in ("Add", "Mul") and all(
                self.constant(other) is None for other in user.input
            )
            if user.op_type not in SHAPE_ONLY or is_elementwise:
                return None if is_elementwise else (user, value)
            value = user.output[0]
        return None

    def keep(self, node: Any) -> None:
        """Keep a node unchanged."""
        self._nodes.append(node)

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node, once per output; return the name of the output."""
        from onnx import helper

        if output not in self._outputs:
            self._outputs.add(output)
            self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def add_constant(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant, once per name; return the name.

        It replaces the graph's own constant of that name.
        """
        from onnx import numpy_helper

        if name not in self._added:
            self._added[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def finish(self) -> None:
        """Write the collected nodes and constants back to the graph.

        Unused constants are removed.
        """
        del self.graph.node[:]
        self.graph.node.extend(self._nodes)
        used_values = {value for node in self._nodes for value in node.input}
        constants = [tensor for tensor in (self._constants | self._added).values() if tensor.name in used_values]
        del self.graph.initializer[:]
        self.graph.initializer.extend(constants)


BLOCK = 64
FINE_BLOCK = 32
"""Weights that share a scale: the fine block is for values, the common one for everything else by block."""

TABLE_ROWS = 1000
"""Smaller embedding tables (positions, types) are not worth a Cast."""

GELU_FLOOR = -0.17
MICROSOFT = "com.microsoft"


def quantize(model: Any) -> None:
    """Quantise the weights of an ``onnx.ModelProto`` in place.

    Constant matrices become int8, embedding tables float16.
    """
    from onnx import helper

    editor = GraphEditor(model.graph)
    for node in model.graph.node:
        if node.op_type == "MatMul" and _is_matrix(editor.constant(node.input[1])):
            _project(editor, node)
        elif node.op_type == "Gather" and _is_table(editor.constant(node.input[0])):
            _gather_half(editor, node)
        else:
            editor.keep(node)
    editor.finish()
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def blockwise(matrix: Matrix, block: int = BLOCK) -> tuple[NDArray[np.uint8], Matrix]:
    """Quantise ``(k, n)`` weights in blocks along k, symmetric about 128.

    Returns:
        ``(n, blocks, block)`` uint8 and ``(n, blocks)`` float32 scales: ``weight = (value - 128) * scale``.
    """
    k, n = matrix.shape
    blocks = -(-k // block)
    padded = np.zeros((blocks * block, n), dtype=np.float32)
    padded[:k] = matrix
    parts = padded.T.reshape(n, blocks, block)
    scales = np.abs(parts).max(axis=2) / 127
    values = np.rint(parts / np.where(scales == 0, 1, scales)[:, :, None]) + 128
    return values.astype(np.uint8), scales.astype(np.float32)


def by_column(matrix: Matrix) -> tuple[NDArray[np.int8], Matrix]:
    """Quantise ``(k, n)`` weights to int8 with a scale for each column.

    Returns the values and ``(n,)`` float32 scales: ``weight = value * scale``.
    """
    scales = np.abs(matrix).max(axis=0) / 127
    return np.rint(matrix / np.where(scales == 0, 1, scales)).astype(np.int8), scales.astype(np.float32)


def _is_matrix(array: NDArray[Any] | None) -> bool:
    return array is not None and array.ndim == 2 and array.dtype == np.float32


def _is_table(array: NDArray[Any] | None) -> bool:
    return array is not None and _is_matrix(array) and len(array) > TABLE_ROWS


def _project(editor: GraphEditor, node: Any) -> None:
    """Quantise one product with constant weights.

    The method depends on its position in the graph.
    """
    source, use = editor.maker(node.input[0]), editor.end_use(node.output[0])
    made_by = source.op_type if source is not None else ""
    used_by = use[0].op_type if use is not None else ""
    if made_by == "Gelu":
        _multiply_by_row(editor, node, _rows_of_gelu(editor, node.input[0]))
    elif used_by == "Gelu" and made_by == "LayerNormalization" and _bias(editor, node) is not None:
        _multiply_normalised(editor, node, source)
    elif use is not None and used_by == "MatMul" and not _is_value(editor, *use):
        _multiply_by_row(editor, node, _rows(editor, node.input[0]))
    else:
        value = use is not None and used_by == "MatMul"
        _multiply_by_block(editor, node, FINE_BLOCK if value else BLOCK)


def _is_value(editor: GraphEditor, attention: Any, operand: str) -> bool:
    weights = editor.maker(attention.input[0])
    return operand == attention.input[1] and weights is not None and weights.op_type == "Softmax"


def _multiply_by_block(editor: GraphEditor, node: Any, block: int) -> None:
    matrix = _matrix(editor, node)
    values, scales = blockwise(matrix, block)
    inputs = [
        node.input[0],
        editor.add_constant(f"{node.input[1]}.int8", values),
        editor.add_constant(f"{node.input[1]}.scales", scales.reshape(-1)),
    ]
    k, n = matrix.shape
    editor.add("MatMulNBits", inputs, node.output[0], MICROSOFT, K=k, N=n, bits=8, block_size=block, accuracy_level=4)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Activations as ``uint8``, with a scale by row.

    ``activation = (values - zero) * scale * largest``, with ``largest`` by row
    """

    values: str
    largest: str
    scale: str
    zero: str


def _rows(editor: GraphEditor, value: str) -> _Rows:
    """Quantise rows between minus and plus their largest magnitude."""
    magnitude = editor.add("Abs", [value], f"{value}.magnitude")
    return _divided(editor, value, magnitude, floor=1e-6, low=-1.0)


def _rows_of_gelu(editor: GraphEditor, value: str) -> _Rows:
    """Quantise rows from the floor of Gelu to their largest value.

    The largest value is taken to be at least 1.
    """
    return _divided(editor, value, value, floor=1.0, low=GELU_FLOOR)


def _divided(editor: GraphEditor, value: str, magnitude: str, *, floor: float, low: float) -> _Rows:
    """Divide rows by their largest magnitude and quantise ``[low, 1]``."""
    zero = round(-low * 255 / (1 - low) + 0.01)
    scale = 1 / (255 - zero)
    axes = editor.add_constant("rows.axes", np.array([-1], np.int64))
    floor_constant = editor.add_constant(f"rows.least.{floor}", np.array(floor, np.float32))
    rows = _Rows(
        values=f"{value}.rows",
        largest=f"{value}.largest",
        scale=editor.add_constant(f"rows.scale.{zero}", np.array(scale, np.float32)),
        zero=editor.add_constant(f"rows.zero.{zero}", np.array(zero, np.uint8)),
    )
    peak = editor.add("ReduceMax", [magnitude, axes], f"{value}.peak", keepdims=1)
    editor.add("Max", [peak, floor_constant], rows.largest)
    shares = editor.add("Div", [value, rows.largest], f"{value}.shares")
    editor.add("QuantizeLinear", [shares, rows.scale, rows.zero], rows.values)
    return rows


def _multiply_by_row(editor: GraphEditor, node: Any, rows: _Rows, matrix: Matrix | None = None) -> None:
    values, scales = by_column(_matrix(editor, node) if matrix is None else matrix)
    weight, result = node.input[1], node.output[0]
    weights = editor.add_constant(f"{weight}.int8", values), editor.add_constant(f"{weight}.scales", scales)
    inputs = [rows.values, weights[0], rows.scale, weights[1], rows.zero]
    shares = editor.add("MatMulIntegerToFloat", inputs, f"{result}.shares", MICROSOFT)
    editor.add("Mul", [shares, rows.largest], result)


def _multiply_normalised(editor: GraphEditor, node: Any, norm: Any) -> None:
    """Multiply the output of ``norm`` before its scale and shift.

    These move into the weights and the bias.
    """
    scale, shift = editor.constant(norm.input[1]), editor.constant(norm.input[2])
    bias, matrix = _bias(editor, node), _matrix(editor, node)
    assert scale is not None
    assert shift is not None
    assert bias is not None
    epsilon = {attribute.name: attribute.f for attribute in norm.attribute}.get("epsilon", 1e-5)
    ones = editor.add_constant(f"rows.ones.{len(scale)}", np.ones_like(scale))
    normalized = editor.add(
        "LayerNormalization", [norm.input[0], ones], f"{node.input[0]}.plain", axis=-1, epsilon=epsilon
    )
    _multiply_by_row(editor, node, _rows(editor, normalized), matrix * scale[:, None])
    constant = editor.constant(bias)
    assert constant is not None
    editor.add_constant(bias, constant + shift @ matrix)


def _bias(editor: GraphEditor, node: Any) -> str | None:
    """Return the name of the bias added to the product.

    None where anything else uses either.
    """
    users = editor.users(node.output[0])
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    (bias,) = (value for value in users[0].input if value != node.output[0])
    return bias if editor.constant(bias) is not None and len(editor.users(bias)) == 1 else None


def _matrix(editor: GraphEditor, node: Any) -> Matrix:
    matrix = editor.constant(node.input[1])
    assert matrix is not None
    return matrix


def _gather_half(editor: GraphEditor, node: Any) -> None:
    from onnx import TensorProto

    table = editor.constant(node.input[0])
    assert table is not None
    half = editor.add_constant(f"{node.input[0]}.float16", table.astype(np.float16))
    rows = editor.add("Gather", [half, node.input[1]], f"{node.output[0]}.float16", axis=0)
    editor.add("Cast", [rows], node.output[0], to=TensorProto.FLOAT)

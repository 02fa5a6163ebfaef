"""A small editor over an ``onnx.GraphProto``: who makes a value, who uses it, constants in, nodes out."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPE_ONLY = {"Add", "Mul", "Reshape", "Transpose"}
"""Operators that a projection passes through before its use: bias, scale, and the split into heads."""


class GraphEditor:
    """Reads a graph as it was, and collects the nodes that take the place of its own.

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
        """The array of a constant, None where ``value`` is computed."""
        from onnx import numpy_helper

        tensor = self._constants.get(value)
        array: NDArray[Any] | None = None if tensor is None else numpy_helper.to_array(tensor)
        return array

    def maker(self, value: str) -> Any | None:
        """The node that computes ``value``; None for inputs and constants."""
        return self._makers.get(value)

    def users(self, value: str) -> list[Any]:
        """The nodes that take ``value``."""
        return self._users[value]

    def end_use(self, value: str) -> tuple[Any, str] | None:
        """The first node after ``value`` that is more than bias, scale or shape, and the value that it takes.

        None where the way forks or ends, or where an Add joins it with something computed.
        """
        while len(self._users[value]) == 1:
            user = self._users[value][0]
            joins = user.op_type in ("Add", "Mul") and all(self.constant(other) is None for other in user.input)
            if user.op_type not in SHAPE_ONLY or joins:
                return None if joins else (user, value)
            value = user.output[0]
        return None

    def keep(self, node: Any) -> None:
        """Take a node over as it is."""
        self._nodes.append(node)

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node, once for every output; gives the name of the output."""
        from onnx import helper

        if output not in self._outputs:
            self._outputs.add(output)
            self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def add_constant(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant, once for every name, in place of the graph's own of that name; gives the name."""
        from onnx import numpy_helper

        if name not in self._added:
            self._added[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def finish(self) -> None:
        """Put the collected nodes and constants into the graph; constants that nobody uses go."""
        del self.graph.node[:]
        self.graph.node.extend(self._nodes)
        used = {value for node in self._nodes for value in node.input}
        kept = [tensor for tensor in (self._constants | self._added).values() if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

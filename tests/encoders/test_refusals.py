"""Graphs that reach out of their file, or have no bound."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from semroute.encoders.onnx import TextGraph, check_graph_file
from semroute.errors import EncoderError


def external(location: str = "secret.bin", name: str = "w") -> Any:
    from onnx import TensorProto

    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def inner_graph(tensor: Any = None, *nodes: Any) -> Any:
    from onnx import TensorProto, helper

    output = [helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])]
    return helper.make_graph([*nodes], "inner", [], output, [] if tensor is None else [tensor])


def as_initializer(model: Any) -> None:
    model.graph.initializer.append(external())


def as_sparse(model: Any) -> None:
    from onnx import SparseTensorProto

    model.graph.sparse_initializer.append(SparseTensorProto(values=external(), dims=[4]))


def as_constant(model: Any) -> None:
    from onnx import helper

    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=external()))


def as_list_of_tensors(model: Any) -> None:
    from onnx import AttributeProto

    model.graph.node[0].attribute.append(AttributeProto(name="t", type=AttributeProto.TENSORS, tensors=[external()]))


def in_a_branch(model: Any) -> None:
    from onnx import helper

    node = helper.make_node("If", ["c"], ["w"], then_branch=inner_graph(external()), else_branch=inner_graph())
    model.graph.node.append(node)


def in_a_function(model: Any) -> None:
    from onnx import helper

    node = helper.make_node("Constant", [], ["w"], value=external())
    function = helper.make_function("own", "F", [], ["w"], [node], [helper.make_opsetid("", 17)])
    model.functions.append(function)


def without_its_mark(model: Any) -> None:
    tensor = external()
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


def without_a_name_of_a_file(model: Any) -> None:
    tensor = external()
    del tensor.external_data[:]
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "place",
    [
        as_initializer,
        as_sparse,
        as_constant,
        as_list_of_tensors,
        in_a_branch,
        in_a_function,
        without_its_mark,
        without_a_name_of_a_file,
    ],
)
def test_data_outside_of_the_file_is_refused_wherever_it_is_named(tmp_path: Path, place: Callable[[Any], None]) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(tiny.graph(place))
    with pytest.raises(EncoderError, match="a tensor's data lies in another file; save the model with all data inside"):
        check_graph_file(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "beside.bin", "link.bin"])
def test_data_is_not_read_from_another_file_be_it_beside_the_graph(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    tokenizer = tiny.write_tokenizer(folder / "tokenizer.json")
    for path in (tmp_path / "secret.bin", folder / "beside.bin"):
        tiny.table().tofile(path)
    (folder / "link.bin").symlink_to("../secret.bin")

    def change(model: Any) -> None:
        tensor = external(location, "table")
        tensor.dims[:] = [len(tiny.WORDS), tiny.DIMENSIONS]
        model.graph.initializer[0].CopyFrom(tensor)

    (folder / "encoder.onnx").write_bytes(tiny.graph(change))
    with pytest.raises(EncoderError, match="lies in another file"):
        TextGraph(folder / "encoder.onnx", tokenizer, width=tiny.DIMENSIONS, max_tokens=16)


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_a_loop_is_refused_also_inside_of_a_branch(tmp_path: Path, kind: str) -> None:
    from onnx import helper

    def change(model: Any) -> None:
        loop = helper.make_node(kind, ["n", "c"], ["w"], body=inner_graph())
        model.graph.node.append(helper.make_node("If", ["c"], ["w"], then_branch=inner_graph(None, loop)))

    path = tmp_path / "encoder.onnx"
    path.write_bytes(tiny.graph(change))
    with pytest.raises(EncoderError, match="it holds a loop"):
        check_graph_file(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a graph",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a graph of 2^62 bytes
        b"\x3a",
        b"\xff" * 64,
        b"\x08\x08",  # a version and nothing else
        b"\x0b" + b"\x00" * 9,  # a group, which protobuf has given up
        b"ORTM" * 20,
    ],
)
def test_an_invalid_graph_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"encoder\.onnx: not a usable ONNX model"):
        check_graph_file(path)


def test_endless_nesting_does_not_recurse_and_many_fields_have_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b""
    for _ in range(3000):  # a graph in an attribute of a node in a graph
        for key in (b"\x32", b"\x2a", b"\x0a"):
            content = key + varint(len(content)) + content
    (tmp_path / "deep.onnx").write_bytes(b"\x3a" + varint(len(content)) + content)
    check_graph_file(tmp_path / "deep.onnx")
    monkeypatch.setattr("semroute.encoders.onnx.MAX_FIELDS", 1000)
    with pytest.raises(EncoderError, match="more than 1,000 fields"):
        check_graph_file(tmp_path / "deep.onnx")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_a_name_that_means_another_format_makes_no_difference(tmp_path: Path) -> None:
    (tmp_path / "encoder.ort").write_bytes(tiny.graph())
    tokenizer = tiny.write_tokenizer(tmp_path / "tokenizer.json")
    graph = TextGraph(tmp_path / "encoder.ort", tokenizer, width=tiny.DIMENSIONS, max_tokens=16)
    assert graph(["boil a egg"]).shape == (1, tiny.DIMENSIONS)


def test_graphs_over_other_inputs_or_to_other_outputs_are_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    def another_input(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1]))

    def a_row_for_each_token(model: Any) -> None:
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("words", TensorProto.FLOAT, ["n", "t", 8]))

    def whole_numbers(model: Any) -> None:
        model.graph.node.append(helper.make_node("Cast", ["unit"], ["whole"], to=TensorProto.INT64))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("whole", TensorProto.INT64, ["n", 8]))

    tokenizer = tiny.write_tokenizer(tmp_path / "tokenizer.json")
    for change, said in (
        (another_input, "not a graph over token ids"),
        (a_row_for_each_token, "of 3 axes, not float rows"),
        (whole_numbers, r"gives 'tensor\(int64\)' of 2 axes"),
    ):
        (tmp_path / "encoder.onnx").write_bytes(tiny.graph(change))
        with pytest.raises(EncoderError, match=said):
            TextGraph(tmp_path / "encoder.onnx", tokenizer, width=tiny.DIMENSIONS, max_tokens=16)


@pytest.mark.slow
def test_the_built_in_model_passes(exported_encoder: Any) -> None:
    check_graph_file(exported_encoder.model_path)
    assert np.isfinite(exported_encoder.load().encode(["a query"])).all()


@pytest.mark.skipif(os.name == "nt", reason="devices as POSIX has them")
def test_a_device_is_no_graph() -> None:
    with pytest.raises(EncoderError, match="not a usable ONNX model"):
        check_graph_file(Path("/dev/zero"))

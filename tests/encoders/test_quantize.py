from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.encoders.export import export_onnx
from semroute.encoders.quantize import blockwise, by_column

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 8), st.sampled_from([32, 64]), st.integers(0, 1000))
def test_blockwise_weights_are_right_to_half_a_step(k: int, n: int, block: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(k, n)).astype(np.float32)
    values, scales = blockwise(matrix, block)
    assert values.shape == (n, -(-k // block), block)
    restored = ((values.astype(np.float32) - 128) * scales[:, :, None]).reshape(n, -1)[:, :k].T
    steps = np.repeat(scales, block, axis=1)[:, :k].T
    assert (np.abs(restored - matrix) <= steps * 0.501).all()


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 1000))
def test_column_weights_are_right_to_half_a_step(k: int, n: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(k, n)).astype(np.float32)
    values, scales = by_column(matrix)
    assert (np.abs(values * scales - matrix) <= scales * 0.501).all()


def test_weights_of_zero_stay_zero() -> None:
    values, scales = blockwise(np.zeros((64, 2), np.float32))
    assert (values == 128).all()
    assert (scales == 0).all()
    assert (by_column(np.zeros((64, 2), np.float32))[0] == 0).all()


@pytest.fixture(scope="module")
def traced_model(
    sentence_transformer: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory
) -> onnx.ModelProto:
    """A model as torch traces it, quantised; the built-in one by its name is built in another way."""
    return onnx.load(export_onnx(sentence_transformer, tmp_path_factory.mktemp("traced")).model_path)


@pytest.fixture(scope="module")
def operators(traced_model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in traced_model.graph.node)


def test_every_place_of_a_transformer_is_recognised(operators: Counter[str]) -> None:
    layers = 6
    assert operators["MatMulIntegerToFloat"] == 4 * layers  # query, key, and the two of the feed-forward block
    assert operators["MatMulNBits"] == 2 * layers  # value and the attention's output
    assert operators["MatMul"] == 2 * layers  # scores and the weighted sum: no constant weights


def test_no_range_is_taken_over_a_batch(operators: Counter[str]) -> None:
    assert operators["DynamicQuantizeLinear"] == 0


def test_no_large_float_tensor_is_left(traced_model: onnx.ModelProto) -> None:
    large = [
        tensor
        for tensor in traced_model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > 512 * 384
    ]
    assert large == []

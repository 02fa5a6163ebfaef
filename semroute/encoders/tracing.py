"""A torch module over token ids as an fp32 ONNX graph, without traces of the machine that made it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semroute.errors import EncoderError

if TYPE_CHECKING:
    import torch


def unsupported(name: str, why: str) -> EncoderError:
    """The error for a model that has no faithful ONNX graph."""
    return EncoderError(f'model "{name}" cannot be exported to ONNX: {why}; use the torch encoder instead')


def plain_attention(pipeline: Any) -> None:
    """Have the transformer that comes first in ``pipeline`` compute attention as plain MatMul and Softmax: on a CPU
    these are faster in ONNX Runtime than its Attention operator."""
    pipeline[0].auto_model.set_attn_implementation("eager")


def traced(module: torch.nn.Module, *, output: str, name: str) -> Any:
    """The fp32 ``onnx.ModelProto`` of ``module``, of any batch and length.

    Args:
        module: on the CPU, in evaluation mode; takes ``input_ids`` and ``attention_mask``, both int64
            ``(batch, tokens)``.
        output: name for what it gives.
        name: of the model, for the message.

    Raises:
        EncoderError: torch cannot trace it.
    """
    import torch

    # Two tensors: the tracer takes one that is given twice for a single input.
    example = torch.ones(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.long)
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    try:
        with _quiet(), torch.no_grad():
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
    """Drop the exporter's notes: stack traces with paths, which would make the bytes depend on the machine."""
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
def _quiet() -> Iterator[None]:
    """Hold back what the exporter reports of itself: the absence of torchvision, and its own deprecated calls."""
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
